"""The speeds in docs/costs.md: python tests/benchmarks/speeds.py [klom|score|list|cold_warm|workers|bridge]

By hand, on a quiet machine. Times move by a fifth between runs; ratios are taken in one run.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import stats

from klom_bench import klom

TEST = Path(__file__).parents[1] / "test_klom.py"


def cold_warm() -> None:
    """`pytest --klom-method=ga`, all ten forget sets, N = 100: empty store, then a full one."""
    with tempfile.TemporaryDirectory() as store:
        command = [sys.executable, "-m", "pytest", str(TEST), "--klom-method=ga", "-q"]
        for name in ("cold", "warm", "warm"):
            start = time.perf_counter()
            subprocess.run([*command, f"--klom-store={store}"], check=True, stdout=subprocess.PIPE)
            print(f"{name}: {time.perf_counter() - start:.1f} s, Python's start included")


def the_2025_way(p: np.ndarray, q: np.ndarray) -> float:
    """One point: np.digitize, a comparison a bin, scipy.stats.entropy."""
    p, q = np.clip(p, -100, 100), np.clip(q, -100, 100)
    lo, hi = min(p.min(), q.min()), max(p.max(), q.max())
    edges = np.linspace(lo, hi if hi > lo else lo + 1, 21)
    at_p, at_q = np.digitize(p, edges), np.digitize(q, edges)
    count_p = np.array([np.sum(at_p == k) for k in range(1, 21)])
    count_q = np.array([np.sum(at_q == k) for k in range(1, 21)])
    share_p, share_q = count_p / count_p.sum(), count_q / count_q.sum()
    return float(stats.entropy(share_p, np.where(share_p > 0, np.maximum(share_q, 1e-5), share_q)))


def klom_speed() -> None:
    """KLOM of 100 x 60,000 against 100 x 60,000, the old way on a tenth of the points."""
    rng = np.random.default_rng(0)
    oracle = rng.normal(5, 2, (100, 60_000)).astype(np.float32)
    unlearned = rng.normal(6, 2, (100, 60_000)).astype(np.float32)
    start = time.perf_counter()
    slow = np.array([the_2025_way(oracle[:, i], unlearned[:, i]) for i in range(6000)])
    old = 10 * (time.perf_counter() - start)
    print(f"2025 way: {old:.1f} s (10 times that of 6,000 points)")
    for name in ("data_unlearning_bench", "default"):
        times = []
        for _ in range(7):
            start = time.perf_counter()
            scores = klom(oracle, unlearned, name)
            times.append(time.perf_counter() - start)
        took = float(np.median(times))
        print(f"{name}: {took * 1000:.0f} ms, {old / took:.0f} times as fast")
        if name == "data_unlearning_bench":
            print(f"  largest difference {np.abs(scores[:6000] - slow).max():.1e}")


def workers() -> None:
    """Empty store, serial against two workers, in a project with nothing but the test."""
    asked = {
        "N = 100, ga": ["--klom-method=ga"],
        "N = 25 (one pack: a serial run leaves a core idle), ga": [
            "--klom-method=ga",
            "--klom-models=25",
        ],
        "N = 25, ga, scrub and retrain": [
            "--klom-method=ga,scrub,retrain",
            "--klom-models=25",
        ],
    }
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_it.py").write_text("from klom_bench.suite import test_klom\n")
        for name, args in asked.items():
            times = []
            for count in ("-n0", "-n2"):
                store = tempfile.mkdtemp(dir=folder)
                command = [sys.executable, "-m", "pytest", "-q", "-p", "no:hypothesispytest"]
                start = time.perf_counter()
                subprocess.run(
                    [*command, *args, count, f"--klom-store={store}"],
                    cwd=folder,
                    check=True,
                    stdout=subprocess.PIPE,
                )
                times.append(time.perf_counter() - start)
            print(
                f"{name}: serial {times[0]:.1f} s, -n2 {times[1]:.1f} s, "
                f"{times[0] / times[1]:.2f} times as fast"
            )


def bridge() -> None:
    """What carrying a measurement from a worker to the controller costs, without the wire."""
    from klom_bench.plugin.bridge import _measurement, _text

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_it.py").write_text("from klom_bench.suite import test_klom\n")
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "--klom-method=ga",
                "--klom-models=4",
                "--klom-forget-set=1",
                "--benchmark-json=out.json",
                f"--klom-store={folder}/store",
            ],
            cwd=folder,
            check=True,
            stdout=subprocess.PIPE,
        )
        (record,) = json.loads(Path(folder, "out.json").read_text())["benchmarks"]
    measured = _measurement(json.dumps({**record, "has_error": False}))
    start = time.perf_counter()
    for _ in range(100):
        text = _text(measured)
        _measurement(text)
    took = (time.perf_counter() - start) / 100
    print(f"bridge: {took * 1000:.2f} ms a test, {len(text) / 1000:.1f} kB on the wire")


def score() -> None:
    """`klom score` of 100 x 60,000 against as many, a file a model and part, on a warm disk."""
    code = (
        "import time, klom_bench.cli, klom_bench.score, klom_bench.files.margins;"
        "start = time.perf_counter(); klom_bench.cli.main({args!r});"
        "print(f'score: {{time.perf_counter() - start:.2f}} s after imports')"
    )
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        for side, mean in (("oracles", 5), ("unlearned", 6)):
            Path(folder, side).mkdir()
            for i in range(100):
                for part, count in (("train", 50_000), ("val", 10_000)):
                    margins = rng.normal(mean, 2, count).astype(np.float32)
                    np.save(Path(folder, side, f"{i}__{part}_margins_23.npy"), margins)
        np.save(Path(folder, "f.npy"), np.arange(0, 50_000, 50))
        args = ["score", f"{folder}/oracles", f"{folder}/unlearned"]
        args += ["--forget-indices", f"{folder}/f.npy"]
        for _ in range(3):
            subprocess.run([sys.executable, "-c", code.format(args=args)], check=True)


def listing() -> None:
    """A store of 200 originals and 10 x 250 oracles in the data card's layout, small files."""
    from klom_bench.store.survey import survey
    from klom_bench.tasks import BUILT_IN

    with tempfile.TemporaryDirectory() as root:
        folders = {"full_models/CIFAR10": 200}
        folders |= {f"oracles/CIFAR10/forget_set_{k}": 250 for k in range(1, 11)}
        for folder, count in folders.items():
            Path(root, folder).mkdir(parents=True)
            for i in range(count):
                for name in (
                    "sd_{}____epoch_23.pt",
                    "{}__val_margins_23.npy",
                    "{}__train_margins_23.npy",
                ):
                    Path(root, folder, name.format(i)).write_bytes(b"")
            for part, points in (
                ("train", 50_000),
                ("val", 10_000),
            ):  # shapes of the first are read
                np.save(Path(root, folder, f"0__{part}_margins_23.npy"), np.zeros(points, "f4"))
        start = time.perf_counter()
        found = survey(Path(root), BUILT_IN)
        took = time.perf_counter() - start
        print(f"list: {sum(h.members for h in found)} members in {took:.2f} s after imports")


SPEEDS = {
    "klom": klom_speed,
    "score": score,
    "list": listing,
    "cold_warm": cold_warm,
    "workers": workers,
    "bridge": bridge,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or SPEEDS:
        SPEEDS[name]()
