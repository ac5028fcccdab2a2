"""What pairs a record with that of another run: which models it rests on, and what each adds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypedDict

import numpy as np

from klom_bench.metrics.comparison import Paired, paired_by
from klom_bench.metrics.excess import BothWays, Jackknife
from klom_bench.metrics.resampling import DRAWS, Errors

DIGITS = 8
"""Decimals of what is kept: differences of small changes stay right to 1 %."""
HASH = 16


class SidesJson(TypedDict):
    """Excess without each model in turn: numbers in one string, which is one line of a file."""

    without_oracle: str
    without_unlearned: str


class PairingJson(TypedDict):
    """A pairing in records and baselines. excess: by split; draws: by split, then by statistic."""

    oracles: str
    originals: str | None
    excess: dict[str, SidesJson]
    draws: dict[str, dict[str, str]]


@dataclass(frozen=True, eq=False)
class Pairing:
    """What two records of the same models are compared by.

    Args:
        oracles, originals: fingerprints of the margins of just the models that were used; None
            where originals are not known.
        excess: by split, excess without each oracle and without each unlearned model.
        draws: by split, `mean` and `reverse_mean` of KLOM on models drawn anew, 40 each.
    """

    oracles: str
    originals: str | None
    excess: Mapping[str, Jackknife]
    draws: Mapping[str, Mapping[str, tuple[float, ...]]]

    def shared_with(self, other: "Pairing") -> Paired:
        """Which models two records share."""
        originals = self.originals is not None and self.originals == other.originals
        return paired_by(self.oracles == other.oracles, originals)

    def as_json(self) -> PairingJson:
        """Plain values; splits without points are left out."""
        return {
            "oracles": self.oracles,
            "originals": self.originals,
            "excess": {
                split: {
                    "without_oracle": _text(of.without_oracle),
                    "without_unlearned": _text(of.without_unlearned),
                }
                for split, of in self.excess.items()
            },
            "draws": {
                split: {name: _text(draws) for name, draws in of.items()}
                for split, of in self.draws.items()
            },
        }


def pairing_of(
    oracles: str,
    originals: str | None,
    excess: Mapping[str, BothWays],
    errors: Mapping[str, tuple[Errors, Errors]],
) -> Pairing:
    """Of fingerprints, and of what was reckoned by split."""
    return Pairing(
        oracles,
        originals,
        {s: both.forward for s, both in excess.items() if np.isfinite(both.forward.value)},
        {
            split: {"mean": forward.means, "reverse_mean": backward.means}
            for split, (forward, backward) in errors.items()
            if forward.means and np.isfinite(forward.mean)
        },
    )


def fingerprint(margins: np.ndarray) -> str:
    """A short hash of margins [models, points], as float32."""
    digest = sha256(repr(margins.shape).encode())
    for row in margins:  # a large file is read row by row
        digest.update(np.ascontiguousarray(row, dtype="<f4").tobytes())
    return digest.hexdigest()[:HASH]


def pairing_from(
    content: Mapping[str, Any] | None, members: Mapping[str, Any], values: Mapping[str, float]
) -> Pairing | None:
    """What `as_json` wrote; None where there is none. members, values: of the record, by side, and
    excess by split.

    KeyError, TypeError, ValueError or AttributeError for anything else.
    """
    if content is None:
        return None
    n, m = members["oracle"], members["unlearned"]
    return Pairing(
        _name(content["oracles"]),
        None if content["originals"] is None else _name(content["originals"]),
        {
            split: Jackknife(
                values[split],
                _numbers(of["without_oracle"], n),
                _numbers(of["without_unlearned"], m),
            )
            for split, of in content["excess"].items()
        },
        {
            split: {
                name: tuple(_numbers(of[name], DRAWS).tolist()) for name in ("mean", "reverse_mean")
            }
            for split, of in content["draws"].items()
        },
    )


def _text(values: Sequence[float] | np.ndarray) -> str:
    return " ".join(f"{value:.{DIGITS}f}" for value in values)


def _numbers(text: str, count: int) -> np.ndarray:
    found = np.array([float(part) for part in text.split()])
    if len(found) != count or not np.isfinite(found).all():
        raise ValueError(f"{count} numbers are expected, not {text!r:.40}")
    return found


def _name(text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError(f"a fingerprint is expected, not {text!r:.40}")
    return text
