"""Workers of pytest-xdist with --klom-method: how tests are shared out, and who gets which GPU."""

import os
from collections.abc import Generator, Sequence
from typing import Any

import pytest

from klom_bench.plugin.keys import RUN
from klom_bench.plugin.options import read_options

LAST_BROKEN_XDIST = (3, 8, 0)


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, Any, Any]:
    """--dist=worksteal is the default; a wrapper, since xdist's own hook makes it `load`."""
    option = config.option
    if hasattr(option, "numprocesses") and option.klom_plan:
        option.numprocesses, option.dist, option.tx = 0, "no", []  # nothing is run
    if getattr(option, "dist", "no") == "each" and _klom(config):
        raise pytest.UsageError("--dist=each would measure every test once a worker: leave it out")
    if getattr(option, "numprocesses", None) and _klom(config):
        if option.dist == "no":
            option.dist = "worksteal"
        if option.dist == "loadgroup" and _xdist_version() <= LAST_BROKEN_XDIST:
            raise pytest.UsageError(
                "--dist=loadgroup of pytest-xdist up to 3.8.0 never ends once a worker has "
                "crashed, and with pytest 9.2 it does not group: leave out --dist (worksteal "
                "is the default), or use --dist=load"
            )
    return (yield)


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """`-n auto`: a worker a GPU, without GPUs a worker a physical core."""
    asked_otherwise = config.option.numprocesses != "auto" or os.environ.get(
        "PYTEST_XDIST_AUTO_NUM_WORKERS"
    )
    if asked_otherwise or not _klom(config):
        return None
    import joblib

    return len(gpus(read_options(config).device)) or int(joblib.cpu_count(only_physical_cores=True))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[Any]) -> None:
    """Fix GPU and threads of each worker before it starts; a replacement has the same spec."""
    run = config.stash.get(RUN, None)
    if run is None:
        return
    import torch

    placed = environments(len(specs), gpus(run.options.device), torch.get_num_threads())
    for spec, environment in zip(specs, placed, strict=True):
        if not spec.popen:  # another machine has GPUs of its own
            continue
        if ":" in run.options.device:  # numbered as this process sees them
            environment.pop("CUDA_VISIBLE_DEVICES", None)
        for name, value in environment.items():
            spec.env.setdefault(name, value)


def environments(workers: int, gpus: Sequence[str], threads: int) -> list[dict[str, str]]:
    """What each worker finds in its environment: a GPU in turn, and its share of the threads."""
    share, rest = divmod(threads, workers)
    found = [{"OMP_NUM_THREADS": str(max(1, share + (i < rest)))} for i in range(workers)]
    for i, environment in enumerate(found):
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[i % len(gpus)]
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


def workers(config: pytest.Config) -> int:
    """How many workers the controller has; 0 in a serial run."""
    option = config.option
    if getattr(option, "dist", "no") == "no" or not option.tx:
        return 0
    from xdist.workermanage import parse_tx_spec_config

    return len(parse_tx_spec_config(config))


def sharing(workers: int, device: str) -> str:
    """What the header says of the workers: times on a shared GPU are not those on one's own."""
    found = len(gpus(device))
    text = f", {workers} workers"
    if found:
        text += f" on {found} GPU{'s' * (found > 1)}"
    return text + (" (shared, so times are longer)" if 0 < found < workers else "")


def _klom(config: pytest.Config) -> bool:
    return bool(config.getoption("klom_method") or config.getini("klom_method"))


def _xdist_version() -> tuple[int, ...]:
    import xdist

    return tuple(int(part) for part in xdist.__version__.split(".")[:3] if part.isdigit())
