"""What is drawn is what records say: read back from the artists of matplotlib."""

import copy
import math
from functools import cache

import numpy as np
import pytest
from helpers.drawn import artists, drawn_of, only, places, row, run, unfit, words

from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.floor import floor_scores
from klom_bench.metrics.word import LIKE
from klom_bench.report.figures.every import SECTIONS, figure_of_row, figures

A, B = row("first", 0.4, epochs=(0.1, 1.0)), row("second", 1.0, setting="lr=1", cost=0.5)
RUN = run(A, B)
SCORES = {
    "KLOM P95": lambda of, split: of["scores"][split]["p95"],
    "excess": lambda of, split: of["excess"][split]["value"],
}


@pytest.fixture(scope="module")
def found():
    """Figures of two methods on one set, by section; drawn when they are first looked at."""
    return cache(lambda section: drawn_of(RUN, section))


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("y", ["val", "retain"])
def test_a_marker_of_the_plane_stands_at_its_scores(found, score, y):
    of = SCORES[score]
    drawn = only(found("plane"), score, y)
    each = {
        "first epoch 1": A["earlier"][0],
        "first epoch 2": A["earlier"][1],
        "first epoch 3": A,
        "second lr=1": B,
    }
    assert places(drawn) == {
        name: pytest.approx((of(record, "forget"), of(record, y))) for name, record in each.items()
    }
    assert drawn.choice == {"forget set": "a", "score": score, "y": y}
    axes = drawn.figure.axes[0]
    seen = axes.viewLim
    assert all(seen.contains(*place) for place in places(drawn).values())
    assert (axes.get_xlabel(), axes.get_ylabel()) == (f"{score}, forget", f"{score}, {y}")


def test_bars_are_intervals(found):
    (bars,) = artists(only(found("plane"), "plane-a-excess-val"), "marks-bars")
    (low, high), (under, over) = np.array(bars.get_segments())[2:]
    x, y = B["excess"]["forget"], B["excess"]["val"]
    np.testing.assert_allclose([*low, *high], [x["low"], y["value"], x["high"], y["value"]])
    np.testing.assert_allclose([*under, *over], [x["value"], y["low"], x["value"], y["high"]])
    (bars,) = artists(only(found("cost"), "cost-a-KLOM P95"), "val-bars")
    end = A["errors"]["val"]["p95"]["high"]
    assert bars.get_segments()[0][1] == pytest.approx((A["relative_cost"]["examples"], end))


def test_oracles_and_doing_nothing_have_their_places(found):
    for score, of, oracles in (("KLOM P95", "p95", A["floor"]), ("excess", "value", None)):
        drawn = only(found("plane"), "plane-a", score, "retain")
        (star,), (circle,) = artists(drawn, "oracles"), artists(drawn, "nothing")
        at = (oracles["forget"]["p95"], oracles["retain"]["p95"]) if oracles else (0, 0)
        assert star.get_xydata()[0] == pytest.approx(at)
        idle = A["do_nothing"] if oracles else A["excess_do_nothing"]
        assert circle.get_xydata()[0] == pytest.approx((idle["forget"][of], idle["retain"][of]))
        assert {"oracles", "do nothing", "second lr=1"} <= {*words(drawn)}


def test_bands_end_where_the_caption_says(found):
    for score, limit in (("KLOM P95", A["perfect"]["val"]["p95"]), ("excess", LIKE)):
        drawn = only(found("cost"), "cost-a", score)
        (_, band) = artists(drawn, "band")
        assert band.get_y() + band.get_height() == pytest.approx(limit)
    assert "stays below in 95 % of runs" in only(found("plane"), "plane-a-KLOM P95-val").caption
    assert f"an excess of {LIKE}" in only(found("plane"), "plane-a-excess-val").caption


def test_the_mean_is_of_what_was_measured_on_all_sets():
    sets = run(A, B, row("first", forget_set="b"))
    drawn = only(drawn_of(sets, "plane"), "plane-mean", "excess-val")
    values = [r["excess"]["forget"]["value"] for r in (A, row())]
    ((name, (x, _)),) = places(drawn).items()
    assert (name, x) == ("first", pytest.approx(sum(values) / 2))
    assert "second lr=1" in drawn.caption


def test_costs_are_drawn_where_they_are_known():
    free, unknown = row("free", cost=0.0), row("unknown", cost=None)
    drawn = only(drawn_of(run(A, B, free, unknown), "cost"), "excess")
    at = {name: x for name, (x, _) in places(drawn, "val-").items()}
    assert at == {"first": 0.02, "second lr=1": 0.5, "free": pytest.approx(0.01)}
    assert "What costs nothing" in drawn.caption
    assert "Of 1 the cost is not known" in drawn.caption
    assert not drawn_of(run(unknown), "cost")
    plain = only(drawn_of(run(unknown), "plane"), "excess-val")
    assert len(places(plain)) == 1
    assert "cost" not in words(plain)


def test_epochs_are_a_line_a_method(found):
    drawn = only(found("epochs"), "epochs-a-excess")
    (line,) = artists(drawn, "forget-")
    assert line.get_xdata().tolist() == [1, 2, 3]
    values = [of["excess"]["forget"]["value"] for of in (*A["earlier"], A)]
    assert line.get_ydata() == pytest.approx(values)
    assert not drawn_of(run(B), "epochs")


def test_points_are_beside_what_retrained_models_have(found):
    drawn = only(found("points"), "points-a")
    lines = {line.get_gid(): line for line in artists(drawn, "val-")}
    scores = floor_scores(ESTIMATORS["default"], 20, 20)
    assert lines["val-null"].get_xdata() == pytest.approx(
        np.quantile(scores, np.linspace(0, 1, 61))
    )
    best = min((A, B), key=lambda record: record["scores"]["forget"]["p95"])
    assert lines["val-0"].get_xdata().tolist() == [*best["quantiles"]["val"].values()]
    assert lines["val-0"].get_ydata() == pytest.approx([0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1])


def test_all_points_are_drawn_where_they_were_kept():
    kept = copy.deepcopy(A)
    kept["per_point"] = {
        "klom": [3.0, None, 1.0, 2.0],
        "reverse": [],
        "splits": {"forget": [0, 1, 2], "retain": [3], "val": []},
    }
    (drawn,) = drawn_of(run(kept), "points")
    lines = {line.get_gid(): line for line in artists(drawn, "")}
    assert lines["forget-0"].get_xydata().tolist() == [[1, 0.5], [3, 1]]
    assert lines["retain-0"].get_xydata().tolist() == [[2, 1]]


def test_the_map_has_every_method_and_why_it_has_no_score():
    alone = row("alone", forget_set="b")
    alone["excess"]["forget"]["value"] = 0.0
    sets = (A, B, row("first", forget_set="b"), alone)
    drawn = only(drawn_of(run(*sets, unfit("third"), failed=["fourth"]), "map"), "excess")
    (cells,) = artists(drawn, "map")
    values = cells.get_array()
    assert values.shape == (7, 2)
    ticks = [label.get_text() for label in drawn.figure.axes[0].get_yticklabels()]
    assert ticks == ["first", "alone", "second lr=1", "third", "fourth", "do nothing", "oracles"]
    assert values[2, 0] == pytest.approx(B["excess"]["forget"]["value"])
    assert values.mask[2:5, 1].all()
    assert words(drawn).count("failed") == 1
    assert words(drawn).count("n/a") == 5


def test_margins_of_the_worst_points():
    drawn = figure_of_row(A)
    for histogram in A["histograms"]:
        highest = 0
        for kind in ("oracles", "originals", "unlearned"):
            (steps,) = artists(drawn, f"{kind}-{histogram['point']}")
            heights, edges, base = steps.get_data()
            counts, rises = np.array(histogram[kind]), heights - base
            np.testing.assert_allclose(rises / rises.max(), counts / counts.max())
            highest = max(highest, rises.max())
            assert (edges[0], edges[-1]) == (0, 1)
        assert highest == pytest.approx(0.7)
    assert [w for w in words(drawn) if w.startswith("point")] == [
        f"point {of['point']}\nKLOM {of['klom']:.1f}" for of in A["worst"]["forget"]
    ]
    bare = copy.deepcopy(A)
    bare["histograms"] = []
    assert figure_of_row(bare) is None


def test_what_has_no_number_is_not_drawn():
    few = run(row(n=2))
    assert not [of for section in SECTIONS for of in drawn_of(few, section) if "excess" in of.name]
    alone = row("margins", task="margins", originals=False)
    for splits in (alone["scores"], alone["quantiles"], alone["perfect"]):
        splits["val"] = dict.fromkeys(splits["val"])
    del alone["excess"]["val"]
    names = {of.name: of for _, of in figures(run(alone))}
    assert {"plane-a-excess-retain", "points-a", "map-excess"} <= {*names}
    assert not [name for name in names if name.startswith("plane") and name.endswith("-val")]
    assert not artists(names["plane-a-excess-retain"], "nothing")
    assert len(figure_of_row(alone).figure.axes[0].get_legend().get_texts()) == 2
    assert [*figures(run(failed=["x"]))] == []


def test_names_do_not_lie_on_each_other():
    many = [row(f"method_{i}") for i in range(25)]
    for i, of in enumerate(many):
        for split in ("forget", "val"):
            of["excess"][split]["value"] = 0.3 + 0.01 * i * (9 if split == "val" else 1)
    drawn = only(drawn_of(run(*many), "plane"), "excess-val")
    (axes,) = [a for a in drawn.figure.axes if a.get_xlabel()]
    assert all(axes.viewLim.contains(*place) for place in places(drawn).values())
    boxes = [text.get_window_extent().padded(-1.5) for text in axes.texts]
    assert not [1 for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    left_out = 27 - len(boxes)
    assert 0 < left_out < 20
    assert f"{left_out} markers have no room for a name" in drawn.caption


def test_records_of_other_models_stand_in_figures_of_their_own():
    found = drawn_of(run(A, row("first", seed=1)), "points")
    assert [of.choice["forget set"] for of in found] == ["a, seed 0", "a, seed 1"]


def test_scores_that_are_nan_leave_the_others_alone():
    nan = copy.deepcopy(B)
    nan["scores"] = {split: dict.fromkeys(of) for split, of in nan["scores"].items()}
    found = drawn_of(run(A, nan), "plane")
    assert len(places(only(found, "KLOM P95-val"))) == 3
    assert len(places(only(found, "excess-val"))) == 4
    assert all(math.isfinite(end) for of in found for a in of.figure.axes for end in a.get_ylim())
