"""Models of which a part of the forget set was never taken away."""

from dataclasses import dataclass

import numpy as np
import torch

from klom_bench.ensemble.seeds import member_seed
from klom_bench.store.training import evaluate_pack, train_pack
from klom_bench.tasks.ensemble_id import EnsembleId, packs

CPU = torch.device("cpu")


@dataclass(frozen=True)
class PartLeft(EnsembleId):
    """Trained as the original of the same number is, on R and on a share of F.

    Which points of F stay is drawn for each member, with a seed of its own.
    """

    left: float = 0.0

    def kept(self, member: int) -> np.ndarray:
        """R, and what is left of F."""
        seed = member_seed("part left", self.forget_set.name, self.seed, member)
        count = round(self.left * len(self.forget_set))
        some = np.random.default_rng(seed).permutation(self.forget_set.indices)[:count]
        return np.sort(np.concatenate([self.forget_set.retain, some]))

    def member_seed(self, member: int, purpose: str) -> int:
        """That of the original: the two are a pair."""
        return EnsembleId(self.task, "original", self.seed).member_seed(member, purpose)


def trained(ensemble: EnsembleId, members: range) -> np.ndarray:
    """Margins [members, points] of models that are trained here and kept nowhere."""
    found = []
    for pack in packs(members, ensemble.task.pack):
        made = train_pack(ensemble, pack, CPU, lambda: None, lambda done: None)
        said = evaluate_pack(ensemble, {of.member: of.state for of in made}, CPU)
        found += [np.concatenate([of.train_margins, of.val_margins]) for of in said]
    return np.stack(found)
