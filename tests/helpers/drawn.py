"""Saved runs of a made-up method to be drawn, and what is found in figures of them."""

import copy
from functools import cache

from helpers.compared import result
from matplotlib.text import Text

from klom_bench.report.figures.canvas import SCREEN
from klom_bench.report.figures.every import drawings
from klom_bench.report.runs import saved_run

EPOCH = (
    "epoch", "scores", "reverse", "points", "quantiles", "errors", "highest", "excess", "leftover",
    "excess_do_nothing", "nearer", "retrained", "word", "word_is_provisional", "below_floor",
    "accuracy", "seconds", "relative_cost",
)  # fmt: skip


@cache
def _measured(lr, n, originals):
    return result(lr, n=n, originals=originals)[2]


def row(method="shift", lr=0.5, forget_set="a", cost=0.02, n=20, epochs=(), setting="", **others):
    """A record; epochs: the lr that earlier ones had."""
    of = copy.deepcopy(_measured(lr, n, others.pop("originals", True)))
    of |= {"method": method, "setting": setting, "forget_set": forget_set, **others}
    of["relative_cost"] = {"time": None, "examples": cost}
    for epoch, earlier in enumerate(epochs, start=1):
        was = row(lr=earlier, n=n, cost=cost * epoch / (len(epochs) + 1))
        of["earlier"].append({key: was[key] for key in EPOCH} | {"epoch": epoch})
    of["epoch"] = len(epochs) + 1
    return of


def unfit(method, forget_set="a"):
    test = {"task": "made_up", "forget_set": forget_set, "method": method, "setting": ""}
    return test | {"sees_oracles": False, "rests_on": None, "unfit": "it has no conv layers"}


def run(*rows, failed=()):
    """A saved run; failed: names of methods whose tests on `a` ended early."""
    test = {"task": "made_up", "forget_set": "a", "setting": ""}
    return saved_run("run.json", rows, {}, [test | {"method": name} for name in failed])


def drawn_of(saved, section, width=SCREEN):
    """The figures of one section: drawing all would take long."""
    return [of for name, draw in drawings(saved, width) if name == section and (of := draw())]


def only(figures, *parts):
    """The one figure whose name has these parts."""
    (drawn,) = [of for of in figures if all(part in of.name for part in parts)]
    return drawn


def artists(drawn, gid):
    """All of a figure whose gid begins so."""
    return [a for a in drawn.figure.findobj() if (a.get_gid() or "").startswith(gid)]


def places(drawn, gid="marks-"):
    """Where markers stand, by what they are."""
    found = {}
    for collection in artists(drawn, gid):
        if collection.get_gid() in drawn.tips:
            offsets = collection.get_offsets().tolist()
            found |= dict(zip(drawn.tips[collection.get_gid()], offsets, strict=True))
    return {tip.partition(":")[0]: tuple(place) for tip, place in found.items()}


def words(drawn):
    """All texts of a figure that are seen."""
    texts = drawn.figure.findobj(Text)
    return [text.get_text() for text in texts if text.get_visible()]
