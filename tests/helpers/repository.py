import huggingface_hub.constants
import numpy as np
import torch

from klom_bench.ensemble.ensemble import initial_state
from klom_bench.files.atomic import array_bytes, state_bytes
from klom_bench.metrics.margins import margins
from klom_bench.tasks import BUILT_IN

DIGITS = BUILT_IN["digits"]
FORGET = DIGITS.forget_set("forget_set_3")


def repository():
    """Three originals and three oracles of digits, in the data card's layout, and more beside."""
    rng, files = np.random.default_rng(0), {"README.md": b"# models\n"}
    usual = rng.normal(0, 3, (1797, 10))  # what all models have in common
    for folder, first in (("full_models/DIGITS", 0), ("oracles/DIGITS/forget_set_3", 10)):
        for i in range(3):
            state = initial_state(DIGITS.architecture, first + i)
            files[f"{folder}/sd_{i}____epoch_19.pt"] = state_bytes(state)
            files[f"{folder}/sd_{i}____epoch_10.pt"] = b"an earlier epoch" * 10
            logits = torch.tensor(usual + rng.normal(size=usual.shape), dtype=torch.float32)
            for part, rows in (("train", slice(1438)), ("val", slice(1438, None))):
                files[f"{folder}/{part}_logits_{i}.pt"] = state_bytes(logits[rows].clone())
            val = margins(logits, DIGITS.data.y())[1438:].numpy()
            files[f"{folder}/{i}__val_margins_19.npy"] = array_bytes(val)
    files["forget_set_indices/DIGITS/forget_set_3.npy"] = array_bytes(FORGET.indices)
    files["forget_set_indices/DIGITS/tiny.txt"] = b"kept in git itself"
    return files


def set_endpoint(monkeypatch, url):
    """As HF_ENDPOINT does, which is read when huggingface_hub is imported."""
    constants = huggingface_hub.constants
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", url)


def names(folder):
    return sorted(
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*")
        if p.is_file() and ".cache" not in p.parts
    )
