"""The speeds that README states: python tests/benchmarks/speeds.py [cold_warm|klom]

By hand, on a quiet machine. Times move by a fifth between runs; ratios are taken in one run.
"""

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


if __name__ == "__main__":
    chosen = sys.argv[1:] or ["klom", "cold_warm"]
    for name in chosen:
        {"klom": klom_speed, "cold_warm": cold_warm}[name]()
