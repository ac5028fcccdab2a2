"""What computes packs: threads of this process, or Ray's cluster."""

import re

import torch

from klom_bench.engine.engine import Engine as Engine
from klom_bench.engine.threads import HERE as HERE
from klom_bench.ensemble.device import device_named
from klom_bench.errors import KlomError, unknown

ENGINES = ("threads", "ray")
LEAST_SHARE = 0.0001
"""Ray counts no finer."""


def engine_named(name: str, gpu_share: float | None, device: str) -> Engine:
    """The engine of this name, for what is to run on this device; KlomError where it cannot be."""
    if name not in ENGINES:
        raise KlomError(unknown("engine", name, ENGINES))
    if name == "threads":
        if gpu_share is not None:
            raise KlomError("a share of a GPU is for the engine ray, which was not asked for")
        return HERE
    share = 1.0 if gpu_share is None else gpu_share
    if not LEAST_SHARE <= share <= 1:
        raise KlomError(f"the share of a GPU must be from {LEAST_SHARE} to 1, got {share:g}")
    if re.fullmatch(r"cuda:\d+", device):
        raise KlomError(
            f"device {device}: Ray chooses GPUs for its processes; ask for cuda or auto"
        )
    from klom_bench.engine.cluster import refuse_address, refuse_without_ray
    from klom_bench.engine.on_ray import OnRay

    refuse_without_ray()
    refuse_address()
    return OnRay(share, device)


def device_here(name: str, engine: Engine) -> torch.device:
    """Where this process computes what the engine does not; KlomError where it is not there.

    Who asks for the GPUs of a cluster need not have one.
    """
    return device_named("auto" if name == "cuda" and not engine.here else name)
