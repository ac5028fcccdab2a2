"""Processes that share one machine: how many there are, and who gets which GPU and threads."""

import os
from collections.abc import Sequence


def auto_count(device: str) -> int:
    """A process a GPU, without GPUs a process a physical core."""
    import joblib

    return len(gpus(device)) or int(joblib.cpu_count(only_physical_cores=True))


def environments(processes: int, device: str, threads: int) -> list[dict[str, str]]:
    """What each process finds in its environment: a GPU in turn, and its share of the threads.

    A device with a number is one for all of them, as this process counts GPUs.
    """
    share, rest = divmod(threads, processes)
    found = [{"OMP_NUM_THREADS": str(max(1, share + (i < rest)))} for i in range(processes)]
    names: Sequence[str] = () if ":" in device else gpus(device)
    for i, environment in enumerate(found):
        if names:
            environment["CUDA_VISIBLE_DEVICES"] = names[i % len(names)]
    return found


def gpus(device: str) -> list[str]:
    """The GPUs that may be used, as the caller's CUDA_VISIBLE_DEVICES names them."""
    if device == "cpu":
        return []
    import torch

    count = torch.cuda.device_count()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(i) for i in range(count)]
    if given is not None and count:
        every = [name.strip() for name in given.split(",")]
        # CUDA counts one slice of a MIG GPU in a process, however many it is given.
        slices = all(name.startswith("MIG-") for name in every)
        names = every if slices else every[:count]
    _, colon, number = device.partition(":")
    return names[int(number) : int(number) + 1] if colon else names
