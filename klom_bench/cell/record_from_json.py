"""From JSON values back to a record."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from klom_bench.cell.gates import EXCESS, FREE_OF_N, LEFTOVER, METRICS, Earlier, Gate, Rise
from klom_bench.cell.pairing import pairing_from
from klom_bench.cell.record import Excess, Histogram, Looks, Record, Scores
from klom_bench.cell.record_json import SCHEMA
from klom_bench.errors import KlomError
from klom_bench.metrics.estimate import CONFIDENCE, Estimate
from klom_bench.metrics.estimators import ESTIMATORS, Estimator
from klom_bench.metrics.leftover import Leftover, Slope
from klom_bench.metrics.nearer import Nearer
from klom_bench.metrics.permutation import Retrained
from klom_bench.metrics.resampling import DRAWS, with_error
from klom_bench.metrics.summary import Summary, number

Json = Mapping[str, Any]
AS_THEY_ARE = (
    "version", "task", "forget_set", "forget_set_sha256", "method", "setting", "seed",
    "hyperparameters", "tuning", "sees_oracles", "rests_on", "epoch", "device",
)  # fmt: skip


def from_json(content: Json) -> Record:
    """The record that `to_json` wrote; KlomError for what is none."""
    try:
        if content["schema"] != SCHEMA:
            raise KlomError(
                f"the record has schema {content['schema']!r}, and this version reads {SCHEMA}"
            )
        return _record(content)
    except KeyError as error:
        raise KlomError(
            f"this is no record, or one of an earlier version: it has no {error}; measure it again"
        ) from error
    except (TypeError, AttributeError, ValueError) as error:
        raise KlomError(f"this is no record ({type(error).__name__}: {error})") from error


def _record(r: Json) -> Record:
    models = min(r["members"]["oracle"], r["members"]["unlearned"])
    whole = Record(
        **{name: r[name] for name in AS_THEY_ARE},
        members=r["members"]["unlearned"],
        oracles=r["members"]["oracle"],
        estimator=_estimator(r["estimator"]),
        do_nothing=_scores(r["do_nothing"]),
        do_nothing_reverse=_scores(r["do_nothing_reverse"]),
        nowhere=_scores(r["nowhere"]),
        floor=_scores(r["floor"]),
        floor_reverse=_scores(r["floor_reverse"]),
        perfect=_each(r["perfect"]),
        accuracy_do_nothing=_numbers(r["accuracy_do_nothing"]),
        accuracy_oracle=_numbers(r["accuracy_oracle"]),
        worst={
            split: tuple((of["point"], number(of["klom"])) for of in points)
            for split, points in r["worst"].items()
        },
        histograms=tuple(_histogram(of) for of in r["histograms"]),
        without_score=(r["without_score"]["points"], r["without_score"]["first"]),
        pairing=pairing_from(r.get("pairing"), r["members"], _values(r["excess"])),
        gates=tuple(_gate(of, models) for of in r["gates"]),
        looks=_looks(r.get("looks")),
        **_of_an_epoch(r, models),
        **_per_point(r["per_point"]),
    )
    bare = whole.of_an_earlier_epoch()
    earlier = (replace(bare, epoch=of["epoch"], **_of_an_epoch(of, models)) for of in r["earlier"])
    return replace(whole, earlier=tuple(earlier))


def _of_an_epoch(r: Json, models: int) -> dict[str, Any]:
    """What a record has anew for every epoch."""
    return {
        "scores": _scores(r["scores"]),
        "reverse": _scores(r["reverse"]),
        "counts": {**r["points"]},
        "quantiles": _each(r["quantiles"]),
        "errors": {
            split: {
                name: with_error(number(of["value"]), number(of["se"]), models)
                for name, of in errors.items()
            }
            for split, errors in r["errors"].items()
        },
        "highest": _numbers(r["highest"]),
        "excess": {split: _excess(of, models) for split, of in r["excess"].items()},
        "excess_do_nothing": {
            split: _excess(of, models) for split, of in r["excess_do_nothing"].items()
        },
        # Records of earlier versions have neither.
        "nearer": {split: _nearer(of, models) for split, of in r.get("nearer", {}).items()},
        "leftover": _leftover(r.get("leftover"), models),
        "retrained": Retrained(**r["retrained"]) if r["retrained"] else None,
        "word": r["word"],
        "below_floor": tuple(r["below_floor"]),
        "accuracy": _numbers(r["accuracy"]),
        "seconds": _numbers(r["seconds"]),
        "relative_cost": _numbers(r["relative_cost"]),
    }


def _estimator(given: Json) -> Estimator:
    known = ESTIMATORS.get(given["name"])
    if known is None or known.as_json() != given:
        raise KlomError(f"the record's estimator {given['name']!r} is none of this version")
    return known


def _numbers(values: Json) -> dict[str, float]:
    return {name: number(value) for name, value in values.items()}


def _each(values: Json) -> dict[str, dict[str, float]]:
    return {split: _numbers(of) for split, of in values.items()}


def _scores(values: Json) -> Scores:
    return {split: Summary(**_numbers(of)) for split, of in values.items()}


def _estimate(of: Json, models: int) -> Estimate:
    return Estimate(number(of["value"]), number(of["se"]), models, number(of["skew"]))


def _excess(of: Json, models: int) -> Excess:
    return Excess(
        number(of["value"]),
        number(of["se"]),
        models,
        number(of["skew"]),
        reverse=_estimate(of["reverse"], models),
        cut=number(of["cut"]),
    )


def _values(excess: Json) -> dict[str, float]:
    return {split: number(of["value"]) for split, of in excess.items()}


def _nearer(of: Json, models: int) -> Nearer:
    share = of["share"]
    return Nearer(
        of["word"],
        _estimate(of["gain"], models),
        None if share is None else _estimate(share, models),
    )


def _slope(of: Json, models: int) -> Slope:
    return Slope(number(of["value"]), number(of["se"]), models, number(of["skew"]))


def _leftover(of: Json | None, models: int) -> Leftover | None:
    if of is None:
        return None
    found = of["estimate"]
    slope = None if found is None else _slope(found, models)
    return Leftover(slope, number(of["beside"]), number(of["spread"]), of["why"])


def _histogram(of: Json) -> Histogram:
    originals = of["originals"]
    return Histogram(
        of["point"],
        tuple(of["edges"]),
        tuple(of["oracles"]),
        None if originals is None else tuple(originals),
        tuple(of["unlearned"]),
    )


def _per_point(of: Json | None) -> dict[str, Any]:
    if of is None:
        return {}
    return {
        "points": np.array(of["klom"], dtype=np.float64),
        "reverse_points": np.array(of["reverse"], dtype=np.float64),
        "splits": {split: np.array(rows, dtype=np.int64) for split, rows in of["splits"].items()},
    }


def _looks(of: Json | None) -> Looks | None:
    return None if of is None else Looks(tuple(of["sizes"]), of["made"], of["stopped"])


def _gate(of: Json, models: int) -> Gate:
    before = of["before"]
    return Gate(
        of["metric"],
        of["limit"],
        number(of["value"]),
        of["perfect"],
        None
        if before is None
        else Earlier(before, of["allowed"], of["baseline"], tuple(of["changed"]), _rise(of)),
        _judged_by(of, models),
        CONFIDENCE if of["confidence"] is None else of["confidence"],
        of.get("early", False),
        of.get("family", 1),
        why=of.get("why"),
    )


def _judged_by(gate: Json, models: int) -> Estimate | None:
    if gate["confidence"] is None:
        return None
    statistic = METRICS[gate["metric"]][2]
    if statistic == LEFTOVER:
        return _slope(gate, models)
    if statistic == EXCESS:
        return _estimate(gate, models)
    return with_error(number(gate["value"]), number(gate["se"]), models)


def _rise(gate: Json) -> Rise | None:
    of = gate.get("rise")
    if of is None:
        return None
    drawn = METRICS[gate["metric"]][2] not in FREE_OF_N
    both = (_estimate(part, of["models"]) for part in (of, of["over"]))
    difference, over = (replace(e, draws=DRAWS) if drawn else e for e in both)
    return Rise(difference, over, of["paired"])
