"""Records of a made-up method that moves forget points, as JSON; cheap: 40 points."""

import json

import numpy as np

from klom_bench.cell.record_json import asked
from klom_bench.cell.scoring import References, scored
from klom_bench.forget_set import checked_forget_set
from klom_bench.metrics.estimators import ESTIMATORS

DEFAULT = ESTIMATORS["default"]
F = checked_forget_set("made_up", np.arange(10), 30)
POINTS = 40
SPLITS = F.splits(POINTS)


def margins(seed, n, shift=0.0):
    rng = np.random.default_rng(seed)
    easy = np.random.default_rng(0).normal(3, 1, POINTS)
    return np.float32(easy + shift + rng.standard_normal((n, POINTS)))


def result(lr, n=20, seed=1, originals=True, estimator=DEFAULT, name="shift"):
    """Margins of oracles and unlearned models, and the record of a method that moves by lr."""
    oracle, original = margins(seed, n), margins(seed + 1, n, 1)
    unlearned = original.copy()
    unlearned[:, :10] -= np.float32(lr) * (1 + 0.1 * original[:, :10])
    of = asked("made_up", F, name, "", n, n, estimator, 0)
    known = original if originals else None
    references = References(oracle, known, SPLITS, estimator, n)
    record = scored(of, references, unlearned, hyperparameters={"lr": lr})
    return oracle, unlearned, json.loads(json.dumps(record.without_points().to_json()))


def saved(path, *records, day=None, commit=None):
    """A benchmark JSON of these records; a day of 2026, a commit and whether it was changed."""
    benchmarks = [{"extra_info": {"klom": record}} for record in records]
    content = {"benchmarks": benchmarks}
    if day:
        content["datetime"] = f"2026-{day}T10:00:00+00:00"
    if commit:
        content["commit_info"] = {"id": commit.rstrip("+"), "dirty": commit.endswith("+")}
    path.write_text(json.dumps(content))
    return path
