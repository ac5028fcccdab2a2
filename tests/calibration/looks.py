"""Models that are added until a gate is settled: how often it is wrong, and how many it needs."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from calibration.coverage import MOST_WRONG, MOST_WRONG_REAL
from calibration.jobs import Run, drawn
from calibration.sources import LAWS, REAL, Real, Simulated, Source, seeded
from calibration.tables import errors, share, short, table

from klom_bench.cell.counts import AUTO, looks_in
from klom_bench.cell.gates import Gate
from klom_bench.metrics.estimate import CONFIDENCE, Estimate, judged
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.excess import HIGHEST, mean_excess
from klom_bench.metrics.looks import sure_at_each
from klom_bench.metrics.quick import quick_klom
from klom_bench.metrics.resampling import klom_errors, with_error

LOOKS = looks_in(AUTO, "")
MOST = LOOKS[-1]
METHODS = ("ga", "scrub", "finetune", "influence")
SHIFTS = (0.5, 2.0)
REPEATS, KLOM_REPEATS = 1000, 300
TIMES = {"2 E": 2.0, "1.5 E": 1.5, "E": 1.0, "E / 1.5": 1 / 1.5, "E / 2": 0.5}
PROMISED = {
    "ga": (20, 20, 96, 20, 20),
    "scrub": (21, 29, 97, 33, 21),
    "finetune": (20, 23, 98, 26, 21),
    "influence": (47, 76, 100, 85, 65),
}
"""Models at these limits, as the rule needed when it was designed."""
RETRAIN = {0.1: 40, 0.05: 100, 0.02: 100}
"""Limits, and how many models are promised to be enough for a retrain."""
NEAR = np.linspace(0.7, 1.5, 41)
"""Limits over the expected score, where early passes are counted."""
SAVED = (1.1, 1.25, 1.5)
MOST_CONTRADICTED = 1 / 300


def gated() -> list[Source]:
    """Whose limit may be what they are."""
    moved = [Simulated(law, shift) for law, shift in product(LAWS, SHIFTS)]
    return [*moved, *map(Real, METHODS)]


def with_klom() -> list[Source]:
    """Whose KLOM is gated."""
    methods = ("retrain", "do_nothing", *METHODS)
    return [*(Simulated(law, s) for law, s in product(LAWS, (0.0, *SHIFTS))), *map(Real, methods)]


def excesses(case: Source, n: int, repeats: range, sizes: Sequence[int]) -> np.ndarray:
    """[repeats, 3 sizes]: excess of the first models of n, its error and skewness, size by size."""
    rows, found = case.splits["forget"], []
    alone = {"forget": np.arange(len(rows))}
    for k in repeats:
        oracle, unlearned = (x[:, rows] for x in case.draw_anew(seeded("looks", case, k), n))
        line: list[float] = []
        for size in sizes:
            e = mean_excess(oracle[:size], unlearned[:size], alone)["forget"].forward.estimate
            line += [e.value, e.se, e.skew]
        found.append(line)
    return np.array(found)


def expected(lines: np.ndarray) -> float:
    """What the last look has on average."""
    return float(lines[:, -3].mean())


def own(case: Source) -> float:
    """What infinitely many models would have: the divergence of the Gaussians of a law."""
    if isinstance(case, Simulated):
        z = np.random.default_rng(0).standard_normal(len(case.splits["forget"]))
        return float(((case.shift * z) ** 2).mean() / 2)
    pool, rows = REAL["digits"], case.splits["forget"]
    made = pool.oracles if case.method == "retrain" else pool.methods[case.method]
    oracle, unlearned = (x[:, rows].astype(np.float64) for x in (pool.oracles, made))
    s, t = oracle.var(0), unlearned.var(0)
    gap = (oracle.mean(0) - unlearned.mean(0)) ** 2
    of_points = (np.log(t / s) + (s + gap) / t - 1) / 2
    return float(np.minimum(of_points, HIGHEST).mean())


def estimates(line: np.ndarray, sizes: Sequence[int]) -> list[Estimate]:
    """Of one repeat, size by size."""
    each = zip(sizes, line.reshape(-1, 3).tolist(), strict=True)
    return [Estimate(value, se, n, skew) for n, (value, se, skew) in each]


def ended(line: np.ndarray, limit: float) -> tuple[str, int]:
    """The verdict of one repeat, and the models at which it was given."""
    sure = sure_at_each(LOOKS, CONFIDENCE)
    for estimate in estimates(line, LOOKS):
        if (verdict := judged(estimate, limit, sure)) != "inconclusive":
            return verdict, estimate.models
    return verdict, MOST


class Ends:
    """All repeats of a case with gates at one limit."""

    def __init__(self, repeats: np.ndarray, limit: float) -> None:
        self.verdicts, models = zip(*(ended(line, limit) for line in repeats), strict=True)
        self.models = float(np.mean(models))

    def are(self, verdict: str) -> np.ndarray:
        """Which repeats end so."""
        return np.array(self.verdicts) == verdict

    def needed(self, most: int) -> str:
        """Mean models; bold where they are more than promised."""
        text = f"{self.models:.0f}"
        return text if round(self.models) <= most else f"**{text}**"


def scores(case: Source, n: int, repeats: range) -> np.ndarray:
    """[repeats, 2, 2, looks]: of KLOM's mean and P95 the score, and its error; nested looks."""
    rows, found, estimator = case.splits["forget"], [], ESTIMATORS["default"]
    alone = {"forget": np.arange(len(rows))}
    for k in repeats:
        oracle, unlearned = (x[:, rows] for x in case.draw(seeded("early", case, k), n))
        line = np.full((2, 2, len(LOOKS)), np.nan)
        for look, size in enumerate(LOOKS):
            o, u = oracle[:size].astype(np.float32), unlearned[:size].astype(np.float32)
            points = quick_klom(o, u, estimator)[0]
            line[:, 0, look] = points.mean(), np.percentile(points, 95)
            if size < MOST:
                of, _ = klom_errors(o, u, alone, estimator)["forget"]
                line[:, 1, look] = of.mean, of.p95
        found.append(line)
    return np.array(found)


def early(line: np.ndarray, metric: str, limit: float) -> int:
    """The models at which a limit on KLOM passes early; as many as there may be where it does not.

    line: [score or error, looks] of one repeat.
    """
    for n, score, error in zip(LOOKS[:-1], *line[:, :-1].tolist(), strict=True):
        gate = Gate(metric, limit, score, None, None, with_error(score, error, n), early=True)
        if gate.verdict == "pass":
            return n
    return MOST


def early_row(of_repeats: np.ndarray, metric: str) -> list[str]:
    """How often an early pass is contradicted, at the worst limit; models saved above the score."""
    last = of_repeats[:, 0, -1]
    worst = 0.0
    for limit in NEAR * last.mean():
        high = of_repeats[last > limit]
        worst = max(worst, sum(early(x, metric, limit) < MOST for x in high) / len(of_repeats))
    saved = [MOST - np.mean([early(x, metric, t * last.mean()) for x in of_repeats]) for t in SAVED]
    return [share([worst], 0.0, MOST_CONTRADICTED), *(f"{x:.0f}" for x in saved)]


def print_looks(run: Run, cheap: int = REPEATS, costly: int = KLOM_REPEATS) -> None:
    """All tables."""
    cases = [*gated(), Real("retrain"), *(Simulated(law) for law in LAWS)]
    found = drawn(run, excesses, [(case, MOST) for case in cases], cheap, LOOKS)
    of = {case: found[case, MOST] for case in cases}
    print_at_the_limit(of, cheap)
    print_needed({m: of[Real(m)] for m in METHODS}, cheap)
    print_retrain({case: lines for case, lines in of.items() if case not in gated()}, cheap)
    keys = [(case, MOST) for case in with_klom()]
    of_klom = drawn(run, scores, keys, costly)
    print_early({case: of_klom[case, n] for case, n in keys}, costly)


def print_at_the_limit(of: dict[Source, np.ndarray], repeats: int) -> None:
    """(fail, pass) where the limit is what is there."""
    rows = []
    for case in gated():
        most = MOST_WRONG[case.law] if isinstance(case, Simulated) else MOST_WRONG_REAL
        ends = [Ends(of[case], limit) for limit in (expected(of[case]), own(case))]
        wrong = [[share(e.are(verdict), 0.0, most) for verdict in ("fail", "pass")] for e in ends]
        rows.append([case.name, *wrong[0], f"{ends[0].models:.0f}", *wrong[1]])
    looks = ", ".join(map(str, LOOKS))
    print(
        f"Share of wrong decisions of a gate on excess at its limit, looks at {looks} models,"
        " confidence .95. The limit is the expected score at N = 100; `own value`: that of"
        f" infinitely many models; {errors(repeats, 0.05)}.\n"
    )
    columns = ["margins", "looks: fail", "looks: pass", "models used"]
    print(table([*columns, "own value: fail", "own value: pass"], rows))


def print_needed(of: dict[str, np.ndarray], repeats: int) -> None:
    """Models, and right verdicts, at limits on either side of what is true."""
    rows = []
    for method, lines in of.items():
        truth, cells = expected(lines), []
        for times, most in zip(TIMES.values(), PROMISED[method], strict=True):
            ends = Ends(lines, times * truth)
            sides = ("pass", "fail") if times > 1 else ("fail", "pass")
            right, wrong = (short(float(ends.are(verdict).mean())) for verdict in sides)
            given = f" ({right}, {wrong})" if times != 1 else ""
            cells.append(ends.needed(most) + given)
        rows += [[Real(method).name, *cells], ["promised", *map(str, PROMISED[method])]]
    print(
        "Mean number of models that settle a gate on excess (shares of right and of wrong"
        " verdicts), E the expected score at N = 100, looks as above;"
        f" {errors(repeats, 0.95)}; of means: 1.\n"
    )
    print(table(["settled with", *TIMES], rows))


def print_retrain(of: dict[Source, np.ndarray], repeats: int) -> None:
    """Models that a perfect unlearner needs."""
    rows = []
    for case, lines in of.items():
        every = {limit: Ends(lines, limit) for limit in RETRAIN}
        cells = [
            f"{ends.needed(RETRAIN[limit] if isinstance(case, Real) else MOST)}"
            f" ({short(float(ends.are('pass').mean()))})"
            for limit, ends in every.items()
        ]
        rows.append([case.name, *cells])
    print(
        "The same of perfect unlearners, whose excess is 0 (share that passes);"
        f" {errors(repeats, 0.95)}.\n"
    )
    print(table(["perfect", *(f"limit {limit:g}" for limit in RETRAIN)], rows))


def print_early(of: dict[Source, np.ndarray], repeats: int) -> None:
    """Early passes of limits on KLOM."""
    rows = [
        [case.name, *early_row(lines[:, 0], "forget_mean"), *early_row(lines[:, 1], "forget_p95")]
        for case, lines in of.items()
    ]
    columns = ["of KLOM"]
    for name in ("mean", "P95"):
        columns += [f"{name}: contradicted", *(f"saved at {times:g} E" for times in SAVED)]
    print(
        "Early passes of limits on KLOM: share of runs in which the score at N = 100 lies above the"
        f" limit, at the worst of {len(NEAR)} limits from {NEAR[0]:g} to {NEAR[-1]:g} times the"
        " expected score E at N = 100; and the mean number of models saved at limits above it;"
        f" {errors(repeats, 0.003)}.\n"
    )
    print(table(columns, rows))
