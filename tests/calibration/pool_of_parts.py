"""Pools of models of which a part of the forget set was never taken away."""

from collections.abc import Callable
from typing import Any

import numpy as np
from calibration.pool import Pool
from helpers.part_left import PartLeft, trained

from klom_bench.tasks import DIGITS
from klom_bench.tasks.ensemble_id import EnsembleId

SEED = 9
MODELS = {"forget_set_2": 500, "forget_set_5": 1000}
"""Of each kind, by forget set."""
PACK = 25
SHARES = (0.16, 0.4, 0.6)
"""Whole numbers of the 50 points that these sets have."""


def name_of(forget_set: str) -> str:
    """Of its pool."""
    return f"part left, {forget_set}"


def case_of(share: float) -> str:
    """Of an ensemble in its pool."""
    return f"{100 * share:.0f} % of the forget set left in"


def fill_parts(run: Callable[..., list[Any]]) -> dict[str, Pool]:
    """All pools, of their forget points alone; trained by all workers together, kept nowhere."""
    parts = {n: [range(i, i + PACK) for i in range(0, MODELS[n], PACK)] for n in MODELS}
    kinds: list[str | float] = ["oracle", "original", *SHARES]
    jobs = [(name, kind, part) for name in MODELS for kind in kinds for part in parts[name]]
    done, pools = iter(run(margins, jobs)), {}
    for name in MODELS:
        every = [np.concatenate([next(done) for _ in parts[name]]) for _ in kinds]
        oracles, originals, *rest = every
        made = {case_of(share): found for share, found in zip(SHARES, rest, strict=True)}
        rows = {"forget": np.arange(oracles.shape[1])}
        pools[name_of(name)] = Pool(oracles, {"do_nothing": originals, **made}, rows)
    return pools


def margins(name: str, kind: str | float, members: range) -> np.ndarray:
    """Of oracles, of originals, or of models with a share of the forget set left in."""
    forget_set = DIGITS.forget_set(name)
    if kind == "oracle":
        ensemble = EnsembleId(DIGITS, "oracle", SEED, forget_set)
    elif kind == "original":
        ensemble = EnsembleId(DIGITS, "original", SEED)
    else:
        ensemble = PartLeft(DIGITS, "original", SEED, forget_set, float(kind))
    return trained(ensemble, members)[:, forget_set.indices]
