"""A record is data: it goes to JSON and back, as its schema says, and holds what its points say."""

import json
import math
from dataclasses import replace
from importlib.resources import files

import jsonschema
import numpy as np
import pytest
import torch

from klom_bench import klom
from klom_bench.cell.baseline import Baseline, Regression
from klom_bench.cell.limits import Limits
from klom_bench.cell.measure import measure
from klom_bench.cell.point_scores import save_points
from klom_bench.cell.record import Record
from klom_bench.cell.record_json import EpochJson, GateJson, RecordJson
from klom_bench.cell.scoring import References, scored
from klom_bench.errors import KlomError
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.report.failure import failure
from klom_bench.store.store import Store

SCHEMA = json.loads(files("klom_bench").joinpath("docs", "record.schema.json").read_text())
CPU = torch.device("cpu")
N = 6


@pytest.fixture(scope="module")
def made():
    """Records, once somebody has made them."""
    return {}


@pytest.fixture
def records(made, measured, cell, small_store, tmp_path):
    """One with gates of every kind and an earlier epoch, one of few models, one without scores."""
    if made:
        return made
    plain = measured("ga", members=N, lr=0.3).without_points()
    asked, before = replace(cell("ga", members=N, lr=0.3), epochs=(1, 5)), plain.to_json()
    lower = {"mean": 0.01, "p50": 0.01, "p95": 0.01, "p99": 0.01}
    before["scores"] = dict.fromkeys(before["scores"], lower)
    before["hyperparameters"] = before["hyperparameters"] | {"lr": 0.2}
    baseline = Baseline(tmp_path / "base.json", {("digits", "forget_set_3", "ga"): before})
    limits = Limits(
        {"forget_excess": 0.1, "forget_leftover": 20.0, "val_p95": 11.0, "reverse_val_mean": 4.0},
        0.9,
        baseline,
        {"forget_mean": Regression(10, True)},
    )
    rng, estimator = np.random.default_rng(0), ESTIMATORS["attribute_to_delete"]
    odd = replace(asked, estimator=estimator, members=4, oracles=4)
    margins = rng.standard_normal((2, 4, 1797))
    margins[..., 3] = 1
    nan = scored(odd.asked, References(margins[0], None, odd.splits, estimator, 4), margins[1])
    whole = measure(asked, Store(small_store), limits=limits)
    made |= {"whole": whole, "few": measured("do_nothing", members=3), "nan": nan, "plain": plain}
    return made


def through_text(record):
    return Record.from_json(json.loads(json.dumps(record.to_json(), allow_nan=False)))


def test_a_record_equals_itself_after_json(records):
    for name, record in records.items():
        again = through_text(record)
        assert again == record, name
        assert again.gates == record.gates
        assert (again.points is None) == (record.points is None)
        if record.points is not None:
            np.testing.assert_array_equal(again.points, record.points)
            np.testing.assert_array_equal(again.splits["val"], record.splits["val"])
        assert failure(again) == failure(record)
        assert again.without_points() != record or name == "plain"
    whole = records["whole"]
    assert len(whole.gates) == 5
    assert through_text(whole).gates[-1].earlier.changed == ("lr 0.2 -> 0.3",)
    assert [early.epoch for early in whole.earlier] == [1]
    assert math.isnan(records["nan"].scores["retain"].mean + records["nan"].highest["retain"])


def test_records_that_differ_are_not_equal(records):
    record = records["plain"]
    points = records["whole"]
    other = points.points.copy()
    other[7] += 1e-12
    for changed in (
        replace(record, seed=1),
        replace(record, hyperparameters={}),
        replace(record, gates=points.gates),
        replace(record, scores=record.reverse),
    ):
        assert changed != record
    assert replace(points, points=other) != points
    assert replace(points, points=points.points.copy()) == points
    assert record != "a record"


def test_the_schema_holds_for_every_record(records):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for record in records.values():
        validator.validate(json.loads(json.dumps(record.to_json())))


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"seed": "0"},
        {"verdict": "good"},
        {"points": {"forget": 1, "retain": 2}},
        {"scores": {"forget": {}, "retain": {}, "val": {}}},
        {"gates": [{"metric": "val_p95"}]},
        {"earlier": [{"epoch": 1}]},
        {"histograms": [{"point": 3, "edges": []}]},
        {"per_point": {"klom": [1]}},
    ],
    ids=str,
)
def test_the_schema_refuses_what_is_no_record(records, change):
    content = records["plain"].to_json()
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert not validator.is_valid(content | change)
    assert validator.is_valid(content | {"something_new": 1})


def test_the_schema_names_what_a_record_has():
    definitions = SCHEMA["$defs"]
    epoch = {*definitions["epoch"]["properties"]}
    assert {*SCHEMA["properties"]} | epoch == {*RecordJson.__annotations__}
    assert epoch == {*EpochJson.__annotations__}
    assert {*definitions["gate"]["properties"]} == {*GateJson.__annotations__}
    for part in (SCHEMA, *definitions.values()):
        assert {*part.get("required", ())} <= {*part.get("properties", ())} | {"forget", "retain"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "the record has schema 2, and this version reads 1"),
        ({"scores": None}, "this is no record"),
        ({"estimator": {"name": "mine"}}, "estimator 'mine' is none of this version"),
    ],
)
def test_what_is_no_record_is_refused(records, change, message):
    with pytest.raises(KlomError, match=message):
        Record.from_json(records["plain"].to_json() | change)
    with pytest.raises(KlomError, match="this is no record"):
        Record.from_json({"schema": 1})


def test_points_quantiles_and_histograms_are_of_the_margins(records, cell, small_store):
    record, store = records["few"], Store(small_store)
    asked = cell("do_nothing", members=3)
    oracle, original = (store.held(i).margins(3, CPU) for i in (asked.oracle_id, asked.original_id))
    np.testing.assert_array_equal(record.points, klom(oracle, original))
    np.testing.assert_array_equal(record.splits["forget"], asked.forget_set.indices)
    for split, rows in record.splits.items():
        of, more = record.quantiles[split], records["whole"]
        for q in (5, 25, 50, 75, 95, 99, 100):
            assert of[f"p{q}"] == np.percentile(record.points[rows], q)
            assert more.quantiles[split][f"p{q}"] == np.percentile(more.points[rows], q)
        assert of["p100"] == record.worst[split][0][1] == record.highest[split]
        assert len(record.worst[split]) == 5
    assert [h.point for h in record.histograms] == [p for p, _ in record.worst["forget"]]
    for h in record.histograms:
        assert len(h.edges) == len(h.oracles) + 1
        assert sum(h.oracles) == sum(h.originals) == sum(h.unlearned) == 3
        assert h.originals == h.unlearned  # nothing was done
        both = np.concatenate([oracle[:, h.point], original[:, h.point]])
        assert h.edges[0] == pytest.approx(both.min(), rel=1e-5)
        assert h.edges[-1] == pytest.approx(both.max(), rel=1e-5)


def test_a_record_without_points_is_small(records):
    assert len(json.dumps(records["whole"].without_points().to_json())) < 27_000


def test_points_are_kept_in_a_file(records, tmp_path):
    record = replace(records["whole"], setting="lr=a/b,x=1")
    path = save_points(tmp_path, record)
    assert path == tmp_path / "digits-forget_set_3-ga-lr=a%2Fb,x=1.npz"
    assert [*tmp_path.iterdir()] == [path]
    with np.load(path, allow_pickle=False) as found:
        assert {*found} == {"klom", "reverse", "forget", "retain", "val"}
        np.testing.assert_array_equal(found["klom"], record.points)
        np.testing.assert_array_equal(found["reverse"], record.reverse_points)
        for split, rows in record.splits.items():
            np.testing.assert_array_equal(found[split], rows)
    with pytest.raises(KlomError, match="gone: cannot be written"):
        save_points(tmp_path / "gone", record)
    with pytest.raises(KlomError, match="has no per-point scores"):
        save_points(tmp_path, records["plain"])
