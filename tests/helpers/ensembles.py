import torch

from klom_bench.tasks import DIGITS
from klom_bench.tasks.ensemble_id import EnsembleId

CPU = torch.device("cpu")
FORGET = DIGITS.forget_set("forget_set_3")
ORACLES = EnsembleId(DIGITS, "oracle", 0, FORGET)
TRAIN = """
import sys, torch
from pathlib import Path
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.store.store import Store
from klom_bench.tasks import DIGITS
ensemble = EnsembleId(DIGITS, "oracle", 0, DIGITS.forget_set("forget_set_3"))
def told(event, args):
    if event == "os.link" and (name := Path(args[1]).name).startswith("sd_"):
        sys.stdout.write(name.split("_")[1] + " ")
sys.addaudithook(told)
print("ready", flush=True)
Store(Path(sys.argv[1])).complete([(ensemble, int(sys.argv[2]))], torch.device("cpu"))
"""
"""A program that trains oracles into a store, and says which as each is put in its place."""
