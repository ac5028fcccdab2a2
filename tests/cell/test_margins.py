"""Margins from elsewhere become a record like any other; what cannot be one is refused."""

import numpy as np
import pytest
from helpers.made_up import FORGET, TRAIN, VAL, models

from klom_bench import KlomError, Record, klom
from klom_bench.cell.limits import Limits
from klom_bench.cell.margins import margins_given, record_of
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.excess import excess

N = 8


def record(oracle=None, unlearned=None, originals=None, limits=None, name="mine", **asked):
    sides = {
        "oracle": models(N, 1) if oracle is None else oracle,
        "unlearned": models(N, 2) if unlearned is None else unlearned,
    }
    usual = {"forget": FORGET, "train_points": TRAIN}
    return record_of(
        **{who: margins_given(given, who) for who, given in sides.items()},
        originals=None if originals is None else margins_given(originals, "originals"),
        **usual | asked,
        name=name,
        estimator=ESTIMATORS["default"],
        limits=Limits(limits or {}),
    )


def test_it_holds_what_its_margins_say():
    oracle, unlearned, originals = models(N, 1), models(N, 2, 1.0), models(N, 3, 4.0)
    found = record(oracle, unlearned, originals, {"forget_excess": 9})
    points = klom(oracle, unlearned)
    np.testing.assert_array_equal(found.points, points)
    retain = [i for i in range(TRAIN) if i not in FORGET]
    for split, rows in (("forget", FORGET), ("retain", retain), ("val", range(TRAIN, TRAIN + VAL))):
        rows = list(rows)
        assert found.scores[split].mean == pytest.approx(points[rows].mean())
        assert found.excess[split].value == pytest.approx(excess(oracle, unlearned)[rows].mean())
        of_nothing = excess(oracle, originals)[rows].mean()
        assert found.excess_do_nothing[split].value == pytest.approx(of_nothing)
    assert found.worst["forget"][0][0] == FORGET[int(points[FORGET].argmax())]
    first = found.histograms[0]
    sides = [side[:, first.point] for side in (oracle, originals, unlearned)]
    ends = np.linspace(np.min(sides), np.max(sides), 21)
    counts = [tuple(np.histogram(side, ends)[0]) for side in sides]
    assert [first.oracles, first.originals, first.unlearned] == counts
    assert (found.task, found.method, found.forget_set) == ("margins", "margins", "mine")
    assert found.verdict == "pass"
    assert np.isnan([*found.accuracy.values(), *found.relative_cost.values()]).all()
    assert Record.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    ("oracles", "unlearned", "originals", "word"),
    [
        (150, models(150, 2), None, "like a retrain"),
        (40, models(40, 2, 3.0), None, "unlike a retrain"),
        (8, models(8, 2), None, "cannot be told at this N"),
        (150, models(150, 2, 3.0), models(150, 3, 3.0), "no better than doing nothing"),
        (4, models(4, 2, 3.0), None, "cannot be told at this N"),
    ],
)
def test_without_originals_the_word_is_one_that_needs_none(oracles, unlearned, originals, word):
    assert record(models(oracles, 1), unlearned, originals).word == word


def test_files_and_folders_are_taken_as_klom_score_takes_them(tmp_path):
    expected, margins = record(), models(N, 2)
    np.save(tmp_path / "one.npy", margins)
    np.savez(tmp_path / "parts.npz", train=margins[:, :TRAIN], val=margins[:, TRAIN:])
    np.save(tmp_path / "forget.npy", np.array(FORGET)[::-1])
    folder = tmp_path / "folder"
    folder.mkdir()
    for i, row in enumerate(margins):
        np.save(folder / f"model_{i}.npy", row)
    parts = {"train": margins[:, :TRAIN], "val": margins[:, TRAIN:]}
    for given in ("one.npy", "parts.npz", "folder"):
        for path in (tmp_path / given, str(tmp_path / given)):
            assert record(unlearned=path, forget=tmp_path / "forget.npy") == expected
    assert record(unlearned=parts, forget=np.isin(np.arange(TRAIN), FORGET)) == expected
    (folder / "model_3.npy").unlink()
    with pytest.raises(KlomError, match="folder: missing in between: member 3"):
        record(unlearned=folder)


def test_without_val_points_there_is_nothing_of_them():
    found = record(models(N, 1, points=TRAIN), models(N, 2, points=TRAIN))
    assert found.counts == {"forget": 20, "retain": 180, "val": 0}
    assert np.isnan([found.scores["val"].mean, found.excess["val"].value]).all()
    assert Record.from_json(found.to_json()) == found
    with pytest.raises(KlomError, match="val_mean is a limit of mine, and there are no val"):
        record(models(N, 1, points=TRAIN), models(N, 2, points=TRAIN), limits={"val_mean": 1})


def with_nan(margins):
    margins[2, 7] = np.nan
    return margins


SHUFFLED = np.random.default_rng(0).permutation(TRAIN + VAL)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"unlearned": models(N, 2)[:, SHUFFLED]}, "unlearned: .* are the points in another order"),
        ({"originals": models(N, 2)[:, SHUFFLED]}, "originals: .* are the points in another order"),
        ({"unlearned": models(N, 2)[:, :-1]}, "val: oracle has 60 points, unlearned 59"),
        ({"forget": [3, TRAIN]}, f"has index {TRAIN}, the train points are 0..{TRAIN - 1}"),
        ({"forget": [3, 3]}, "holds index 3 more than once"),
        ({"forget": []}, "at least one entry"),
        ({"forget": [0.5]}, "must be a list of integer indices"),
        ({"train_points": 1000}, "has 260 points, fewer than 1000 train points"),
        ({"train_points": 0}, "train-points must be at least 1"),
        (
            {"unlearned": with_nan(models(N, 2))},
            "unlearned: the margin of model 2 at all point 7 is nan",
        ),
        ({"oracle": with_nan(models(N, 2))}, "oracle: the margin of model 2 .* 1 of 8 models"),
        ({"originals": with_nan(models(N, 2))}, "originals: the margin of model 2"),
        ({"originals": models(N - 1, 3)}, "originals has 7 models and unlearned 8"),
        ({"unlearned": models(1, 2)}, "unlearned has one model"),
        ({"unlearned": models(N, 2)[0]}, r"the all margins have shape \(260,\)"),
        ({"unlearned": models(N, 1)}, "have the margins of a model in oracle, to the last bit"),
        ({"originals": models(N, 1)}, "originals: 8 of 8 .* have the margins of a model in oracle"),
        ({"oracle": 1e200 * models(N, 1)}, "oracle has all margins beyond 1e\\+100"),
        ({"unlearned": "nowhere.npy"}, "nowhere.npy is not there"),
        ({"unlearned": {"test": models(N, 2)}}, "unlearned: unknown part 'test'"),
        ({"unlearned": {"val": models(N, 2)[:, TRAIN:]}}, "no margins of forget points on both"),
        ({"unlearned": {}}, "unlearned: there are no margins"),
        ({"unlearned": [["a", "b"]]}, "unlearned: margins are real numbers"),
        ({"name": "a/b"}, "the name 'a/b' must be letters"),
        ({"oracle": models(4, 1), "limits": {"val_excess": 1}}, "needs 5 models and oracles"),
        ({"originals": models(N, 3, points=TRAIN)}, "originals has no val margins"),
    ],
    ids=lambda given: "-".join(given) if isinstance(given, dict) else "",
)
def test_what_cannot_be_scored_is_refused(asked, message):
    with pytest.raises(KlomError, match=message):
        record(**asked)


def test_models_that_are_broken_are_scored_whatever_their_points_look_like():
    """A bad method is no other order of points: neither noise, nor the same margin everywhere."""
    rng = np.random.default_rng(0)
    for ruined in (
        rng.normal(size=(N, TRAIN + VAL)),
        -models(N, 2),
        0 * models(N, 2),
        1e90 * models(N, 2),
    ):
        assert record(unlearned=ruined).scores["retain"].mean > 5
