"""The settings of the KLOM estimator, and the published ones by name."""

from dataclasses import dataclass
from typing import Literal, TypedDict

from klom_bench.errors import KlomError, unknown


class EstimatorJson(TypedDict):
    """An estimator in records."""

    name: str
    direction: str
    bins: int
    eps: float
    clip: float | None


@dataclass(frozen=True)
class Estimator:
    """Everything that decides a KLOM number, apart from the margins.

    direction: p || q, the divergence KL(p || q) in nats.
    bins: equal bins between the ends of the range, in float64 (`oracle`) or float32 (`joint`).
    span: `oracle`: the range of the oracles' margins, the last bin closed, and an open bin on
      either side, so that a stray unlearned member cannot stretch the bins. `joint`: the range of
      both samples; samples equal to its end are dropped, as in all published codes.
    clip: margins are cut to [-clip, clip] first; `clip_q` says whether q's are, too.
    eps, least_q: q is at least eps, `where p > 0` or in `every bin` (there counting an empty bin
      below the range, as the 2024 code does).
    renormalise: p and q are scaled to sum to 1 after the floor.
    Sources: RoyRin/data-unlearning-bench, easydub/EasyDUB-code and the code of arXiv 2410.23232;
    `default`: measured (`klom help metric`).
    """

    name: str
    direction: Literal["oracle || unlearned", "unlearned || oracle"]
    bins: int
    span: Literal["oracle", "joint"]
    clip: float | None
    clip_q: bool
    eps: float
    least_q: Literal["where p > 0", "every bin"]
    renormalise: bool

    def as_json(self) -> EstimatorJson:
        """What identifies it in records."""
        return {
            "name": self.name,
            "direction": self.direction,
            "bins": self.bins,
            "eps": self.eps,
            "clip": self.clip,
        }


ESTIMATORS = {
    preset.name: preset
    for preset in (
        Estimator(
            "default", "oracle || unlearned", 18, "oracle", None, False, 1e-5, "where p > 0", False
        ),
        Estimator(
            "data_unlearning_bench",
            "oracle || unlearned", 20, "joint", 100.0, True, 1e-5, "where p > 0", True,
        ),
        Estimator(
            "easydub", "unlearned || oracle", 20, "joint", 100.0, True, 1e-5, "where p > 0", False
        ),
        Estimator(
            "attribute_to_delete",
            "unlearned || oracle", 19, "joint", 100.0, False, 1e-5, "every bin", True,
        ),
    )
}  # fmt: skip


class UnknownEstimator(KlomError, ValueError):
    """A name that no preset has."""


def estimator_named(name: str) -> Estimator:
    """The preset of this name; UnknownEstimator with the nearest name otherwise."""
    if name not in ESTIMATORS:
        raise UnknownEstimator(unknown("estimator", name, ESTIMATORS))
    return ESTIMATORS[name]
