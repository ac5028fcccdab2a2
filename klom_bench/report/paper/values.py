"""Every test with its numbers, for spreadsheets and scripts: comma-separated values."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import cast

from klom_bench.cell.gates import EXCESS, METRICS
from klom_bench.cell.record_json import GateJson, OfTest, RecordJson, Splits, score_of
from klom_bench.errors import visible
from klom_bench.metrics.estimate import EstimateJson
from klom_bench.metrics.summary import SPLITS
from klom_bench.report.runs import SavedRun

Value = str | bool | int | float | None
Values = dict[str, Value]
FORMULA = ("=", "+", "-", "@")
"""How a text begins that a spreadsheet computes."""
REFERENCES = ("floor", "floor_reverse", "do_nothing", "do_nothing_reverse")


def csv_lines(runs: Sequence[SavedRun]) -> str:
    """A heading and a line a test, with one before it for each earlier epoch.

    Numbers are written in full, and read back as they were; where there is none, nothing stands.
    A text that a spreadsheet would compute has an apostrophe before it.
    """
    lines = [line for run in runs for line in _of_run(run)]
    heads = dict.fromkeys(head for line in sorted(lines, key=len, reverse=True) for head in line)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([_written(line.get(head)) for head in heads] for line in lines)
    return text.getvalue()


def _written(value: Value) -> Value:
    if isinstance(value, str):
        value = visible(value)
        return f"'{value}" if value.startswith(FORMULA) else value
    return repr(value) if isinstance(value, float) else value


def _of_run(run: SavedRun) -> Iterator[Values]:
    about: Values = {
        "file": run.name,
        "time": run.at,
        "commit": run.commit.id if run.commit else None,
    }
    for row in run.rows:
        if "unfit" in row:
            yield {**_named(row, "does not apply"), "why": row["unfit"], **about}
            continue
        for early in row["earlier"]:
            of_epoch = cast(RecordJson, {**row, **early, "gates": [], "verdict": "none"})
            yield {**_of_record(of_epoch, "earlier epoch"), **about}
        yield {**_of_record(row, "measured"), **about}
    for test in run.failed:
        yield {**_named(test, "failed"), **about}


def _named(test: OfTest, state: str) -> Values:
    return {**{key: str(test[key]) for key in OfTest.__annotations__}, "state": state, "why": None}  # type: ignore[literal-required]


def _of_record(r: RecordJson, state: str) -> Values:
    estimator, members = r["estimator"], r["members"]
    return {
        **_named(r, state),
        "epoch": r["epoch"],
        "models": members["unlearned"],
        "oracles": members["oracle"],
        "seed": r["seed"],
        "estimator": estimator["name"],
        "direction": estimator["direction"],
        "device": r["device"],
        "hyperparameters": json.dumps(r["hyperparameters"]),
        "sees_oracles": r["sees_oracles"],
        "rests_on": r["rests_on"],
        "word": r["word"],
        "provisional": r["word_is_provisional"],
        "verdict": r["verdict"],
        "gates": "; ".join(map(_gate, r["gates"])),
        **{metric: score_of(r, metric) for metric in METRICS},
        **_ends(r),
        **{f"nearer_{split}": of["word"] for split, of in r["nearer"].items()},
        "retrained_p": r["retrained"]["p"] if r["retrained"] else None,
        **{f"accuracy_{split}": r["accuracy"][split] for split in SPLITS},
        **{f"cost_{of}": value for of, value in r["relative_cost"].items()},
        **{f"seconds_{of}": value for of, value in r["seconds"].items()},
        **{f"points_{split}": count for split, count in r["points"].items()},
        **{
            f"do_nothing_{split}_{EXCESS}": of["value"]
            for split, of in r["excess_do_nothing"].items()
        },
        **{name: value for key in REFERENCES for name, value in _reference(r, key)},
        "forget_set_sha256": r["forget_set_sha256"],
        "version": r["version"],
    }


def _ends(r: RecordJson) -> Values:
    """The 95 % intervals, as far as there are any."""
    of: dict[str, EstimateJson | None] = {
        f"{split}_{EXCESS}": r["excess"].get(split) for split in SPLITS
    }
    of["forget_leftover"] = r["leftover"]["estimate"] if r["leftover"] else None
    for split, errors in r["errors"].items():
        for name, error in errors.items():
            reverse, _, statistic = name.rpartition("_")
            of["_".join([*[reverse] * bool(reverse), split, statistic])] = error
    return {
        f"{metric}_{end}": error[end] if error else None
        for metric, error in of.items()
        for end in ("low", "high")
    }


def _reference(r: RecordJson, key: str) -> Iterator[tuple[str, float | None]]:
    splits = cast(Splits, r[key])  # type: ignore[literal-required]
    for split, summary in splits.items():
        for statistic, value in summary.items():
            yield f"{key}_{split}_{statistic}", value


def _gate(gate: GateJson) -> str:
    return f"{gate['metric']} <= {gate['limit']:g}: {gate['verdict']}"
