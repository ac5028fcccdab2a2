"""The tables in docs/calibration.md: tox run -e calibration [-- PART ...]

Without parts all but `words`, about ten minutes on two cores. Models are found in the store that
KLOM_STORE names, or trained into a temporary one.
"""

import os
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from calibration.blind_spots import print_blind_spots
from calibration.coverage import print_coverage
from calibration.jobs import workers
from calibration.perfect import print_floors, print_levels
from calibration.pool import fill
from calibration.sources import REAL

from klom_bench.tasks import DIGITS

SEED = 0
FORGET_SET = "forget_set_2"
METHODS = ("ga", "scrub", "influence")
ORIGINALS, ORACLES = 400, 400
PARTS = {
    "coverage": print_coverage,
    "levels": print_levels,
    "floors": print_floors,
    "blind_spots": print_blind_spots,
}


def main(names: list[str]) -> None:
    """Print the parts of these names."""
    if unknown := {*names} - {*PARTS}:
        raise SystemExit(f"no parts: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    cores = os.cpu_count() or 1
    given = os.environ.get("KLOM_STORE")
    with nullcontext(given) if given else tempfile.TemporaryDirectory() as store:
        start = time.perf_counter()
        with workers(cores) as run:
            asked = (Path(store), DIGITS, FORGET_SET, ORIGINALS, ORACLES, SEED)
            REAL["digits"] = fill(run, asked, METHODS)
        said(f"{ORIGINALS} originals, {ORACLES} oracles, {', '.join(METHODS)}", start)
    with workers(cores) as run:
        for name in names or PARTS:
            start = time.perf_counter()
            print(f"## {name}\n")
            PARTS[name](run)
            said(name, start)


def said(what: str, start: float) -> None:
    """How long it took, beside the tables."""
    print(f"{what}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
