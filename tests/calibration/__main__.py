"""The tables in docs/calibration.md: tox run -e calibration [-- PART ...]

Without parts all but `words`, `nearness` and `left_over`, about 23 minutes on two cores; `words` takes half an
hour, `left_over` a quarter. Models are found in the store that KLOM_STORE names, or trained into a temporary one.
"""

import os
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from calibration import triples, words
from calibration.blind_spots import print_blind_spots
from calibration.comparison import print_comparison
from calibration.coverage import print_coverage
from calibration.few import print_few
from calibration.jobs import workers
from calibration.left_over import print_left_over
from calibration.looks import print_looks
from calibration.nearness import print_nearness
from calibration.perfect import print_floors, print_levels
from calibration.pool import fill
from calibration.pool_of_parts import fill_parts
from calibration.sources import REAL

from klom_bench.tasks import DIGITS

Wanted = tuple[str, int, int, int, tuple[str, ...]]
"""Forget set of `digits`, originals, oracles, seed, methods."""

POOL: dict[str, Wanted] = {
    "digits": ("forget_set_2", 400, 400, 0, ("ga", "scrub", "finetune", "influence"))
}
POOLS_OF_WORDS: dict[str, Wanted] = {
    f"digits, {name}": (name, words.ORIGINALS, words.ORACLES, words.SEED, words.METHODS)
    for name in words.FORGET_SETS
}
POOLS_BESIDE: dict[str, Wanted] = {
    triples.pool_of(name): (
        name, triples.ORIGINALS, triples.ORACLES, triples.SEED, triples.METHODS
    )
    for name in triples.FORGET_SETS
}  # fmt: skip
PARTS = {
    "coverage": print_coverage,
    "levels": print_levels,
    "floors": print_floors,
    "comparison": print_comparison,
    "looks": print_looks,
    "few": print_few,
    "blind_spots": print_blind_spots,
    "words": words.print_words,
    "nearness": print_nearness,
    "left_over": print_left_over,
}
LONG = {"words", "nearness", "left_over"}


def main(names: list[str]) -> None:
    """Print the parts of these names."""
    if unknown := {*names} - {*PARTS}:
        raise SystemExit(f"no parts: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    names = names or [name for name in PARTS if name not in LONG]
    cores = os.cpu_count() or 1
    given = os.environ.get("KLOM_STORE")
    with nullcontext(given) if given else tempfile.TemporaryDirectory() as store:
        wanted = POOL if {*names} - LONG else {}
        wanted = wanted | (POOLS_OF_WORDS if "words" in names else {})
        wanted = wanted | (POOLS_BESIDE if {*names} & {"nearness", "left_over"} else {})
        for pool, (*asked, methods) in wanted.items():
            start = time.perf_counter()
            with workers(cores) as run:
                REAL[pool] = fill(run, (Path(store), DIGITS, *asked), methods)
            said(f"pool of {pool}", start)
        if "left_over" in names:
            start = time.perf_counter()
            with workers(cores) as run:
                REAL.update(fill_parts(run))
            said("pools with parts left", start)
    with workers(cores) as run:
        for name in names:
            start = time.perf_counter()
            print(f"## {name}\n")
            PARTS[name](run)
            said(name, start)


def said(what: str, start: float) -> None:
    """How long it took, beside the tables."""
    sys.stdout.flush()
    print(f"{what}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
