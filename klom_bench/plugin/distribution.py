"""Workers of pytest-xdist with --klom-method: how tests are shared out, and who gets which GPU."""

import os
from collections.abc import Generator, Sequence
from typing import Any

import pytest

from klom_bench.ensemble.processes import auto_count, environments, gpus
from klom_bench.plugin.asked import read_options
from klom_bench.plugin.keys import RUN

LAST_BROKEN_XDIST = (3, 8, 0)


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, Any, Any]:
    """--dist=worksteal is the default; a wrapper, since xdist's own hook makes it `load`."""
    option = config.option
    if hasattr(option, "numprocesses") and option.klom_plan:
        option.numprocesses, option.dist, option.tx = 0, "no", []  # nothing is run
    if getattr(option, "dist", "no") == "each" and _klom(config):
        raise pytest.UsageError("--dist=each would measure every test once a worker: leave it out")
    shared = getattr(option, "numprocesses", None) or getattr(option, "tx", None)
    if shared and _klom(config) and read_options(config).engine != "threads":
        raise pytest.UsageError(
            "-n has several processes of this machine measure, and --klom-engine=ray has a cluster "
            "compute for one of them: leave out -n"
        )
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
    return auto_count(read_options(config).device)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[Any]) -> None:
    """Fix GPU and threads of each worker before it starts; a replacement has the same spec."""
    run = config.stash.get(RUN, None)
    if run is None:
        return
    import torch

    placed = environments(len(specs), run.options.device, torch.get_num_threads())
    for spec, environment in zip(specs, placed, strict=True):
        if not spec.popen:  # another machine has GPUs of its own
            continue
        for name, value in environment.items():
            spec.env.setdefault(name, value)


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
