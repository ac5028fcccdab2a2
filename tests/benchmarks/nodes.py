"""How the engine ray grows from one node to two: python tests/benchmarks/nodes.py

Trains 100 originals of `digits` on a cluster of one node of one core, and of two, beside a local run of
one thread and of two. By hand, on a quiet machine: two minutes on two cores. Needs klom-bench[ray].
"""

import os
import tempfile
import time
from pathlib import Path

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
import torch
from ray.cluster_utils import Cluster

from klom_bench.engine import HERE, Engine
from klom_bench.engine.on_ray import OnRay
from klom_bench.store.store import Store
from klom_bench.tasks import DIGITS
from klom_bench.tasks.ensemble_id import EnsembleId

MODELS = 100
ORIGINALS = EnsembleId(DIGITS, "original", 0)


def seconds(engine: Engine) -> float:
    """Of a training into an empty store, and of its files."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        Store(Path(folder), engine=engine).complete([(ORIGINALS, MODELS)], torch.device("cpu"))
        return time.perf_counter() - start


def on_nodes(count: int) -> tuple[float, float]:
    """(seconds of a first training, of a second one, whose processes and data are there)."""
    one = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=one)
    for _ in range(count - 1):
        cluster.add_node(**one)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        return seconds(OnRay()), seconds(OnRay())
    finally:
        ray.shutdown()
        cluster.shutdown()


def main() -> None:
    """Print a line a measurement."""
    ORIGINALS.task.data  # noqa: B018
    for threads in (1, 2):
        torch.set_num_threads(threads)
        print(f"{threads} threads of this process: {seconds(HERE):.1f} s", flush=True)
    for count in (1, 2):
        first, second = on_nodes(count)
        print(f"ray, {count} nodes of one core: {first:.1f} s, again {second:.1f} s", flush=True)


if __name__ == "__main__":
    main()
