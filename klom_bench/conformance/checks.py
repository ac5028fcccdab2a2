"""The checks: each yields what is wrong, in words; nothing where all is well."""

import dis
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from klom_bench.conformance.claims import names, share, source_of
from klom_bench.conformance.subject import Subject
from klom_bench.conformance.trial import FORGET, MEMBERS, Outcome, Trial, rows

ROUNDING = 0.01
"""Below this share of what the method changed, another change of margins counts as rounding."""

TRACE = 1e-3
"""Below this share a forget point left no trace; built-in methods leave .4 or more (measured)."""


def trains_what_it_says(subject: Subject) -> Iterator[str]:
    """Parameters changed, a gradient reached them, and all others are as they were."""
    claims, settings, trial = subject.claims, subject.settings, subject.trial
    said = names(claims.trains, trial.network, settings)
    allowed, trained = said | names(claims.resets, trial.network, settings), said - trial.idle
    part = share(claims.trains, settings)
    changed = {
        name: _changed(trial, subject.unlearned, name)
        for name, _ in trial.network.named_parameters()
    }
    reached = subject.seen.reached
    for name, shares in changed.items():
        still = sum(s == 0 for s in shares)
        if name not in allowed and still < len(shares):
            yield f"{name} changed, but the docstring says `Trains: {claims.trains}`"
        if name in trained and still and part is None:
            yield f"{name} did not change in {still} of {len(shares)} members"
        elif name in trained and reached and name not in reached:
            yield f"{name} moved, but no gradient reached it (weight decay or a reset alone?)"
    if part is not None:
        sizes = np.array([trial.originals.states[0][name].numel() for name in changed])
        whole = sizes @ np.array(list(changed.values())) / sizes.sum()
        if whole.max() > part + 1 / sizes.sum() or whole.min() == 0:
            yield (
                f"{whole.min():.1%} to {whole.max():.1%} of the weights changed, but the docstring "
                f"says `Trains: {claims.trains}` ({part:.1%}); masked weights that weight decay or "
                "momentum moves must be restored"
            )


def every_forget_point_counts(subject: Subject) -> Iterator[str]:
    """Another point in the place of any forget point gives another model, or none does."""
    alone: list[list[int]] = [[], *([i] for i in range(FORGET))]
    margins = subject.trial.run([0] * (FORGET + 1), replaced=alone).margins
    traces = np.abs(margins[1:] - margins[0]).max(1) / subject.effect
    silent = np.flatnonzero(~(traces > TRACE))
    if subject.claims.sees_forget and len(silent):
        yield (
            f"{len(silent)} of {FORGET} forget points leave no trace (the first is number "
            f"{silent[0] + 1}): other points in their place give the same model. The set is cut, "
            "or what is learned from it has no gradient. If the method is not meant to look at it, "
            "its docstring must say `Sees: retain`"
        )
    if not subject.claims.sees_forget and len(silent) < FORGET:
        yield f"forget points leave a trace, but the docstring says `Sees: {subject.claims.sees}`"


def no_validation_point_is_seen(subject: Subject) -> Iterator[str]:
    """No val point was an input of any model."""
    data, shape = subject.task.data, subject.seen.shape
    seen = subject.seen.inputs & (rows(data.x_val, shape) - rows(data.x_train, shape))
    if seen:
        yield f"{len(seen)} validation points were given to a model"


def originals_are_untouched(subject: Subject) -> Iterator[str]:
    """Neither the originals nor the data, which all tests share, are changed."""
    before = _shared(subject)
    subject.trial.run()
    for name, tensor in _shared(subject).items():
        if not torch.equal(tensor, before[name]):
            yield f"{name} changed: a method may change the model that it is given, nothing else"


def the_same_seed_gives_the_same(subject: Subject) -> Iterator[str]:
    """The second run finds the global random states where the first left them."""
    again = subject.trial.run().margins
    if not subject.same(again, subject.unlearned.margins):
        yield (
            f"margins differ by up to {np.nanmax(np.abs(again - subject.unlearned.margins)):.2g} "
            "between two runs: take randomness from model.generator(i), not from torch, NumPy or "
            "random"
        )


def the_pack_makes_no_difference(subject: Subject) -> Iterator[str]:
    """Members do not depend on those that are computed with them."""
    apart = [subject.trial.run([i]).margins for i in MEMBERS]
    difference = np.abs(np.concatenate(apart) - subject.unlearned.margins).mean()
    if not difference <= ROUNDING * subject.effect:
        yield (
            f"margins differ by {difference:.2g} in the mean when members are computed one by one, "
            f"{difference / subject.effect:.0%} of what the method changes: sum losses over "
            "members (klom_bench.ensemble.losses), let each draw from its own generator"
        )


def batchnorm_is_treated_as_said(subject: Subject) -> Iterator[str]:
    """`BatchNorm: frozen` leaves the running statistics alone, `updated` does not."""
    said = subject.claims.batchnorm
    if subject.settings.get("freeze_batchnorm") is True:  # asked for, rather than said
        said = "frozen"
    if not said:
        return
    for trial in (subject.trial, subject.probe):
        statistics = [
            n for n in trial.network.state_dict() if n.endswith(("running_mean", "running_var"))
        ]
        if not statistics:
            continue
        outcome = trial.run()
        moved = [name for name in statistics if any(_changed(trial, outcome, name))]
        if said == "frozen" and moved:
            yield f"BatchNorm statistics should be frozen, but {', '.join(moved)} changed"
        if said == "updated" and len(moved) < len(statistics):
            yield "BatchNorm statistics should be updated, but some did not change"


def resets_are_whole(subject: Subject) -> Iterator[str]:
    """What is reset does not depend on what was there before."""
    claim = subject.claims.resets
    general = claim == "all" or claim.startswith("last ")  # the probe's names are its own
    for trial in (subject.trial, subject.probe) if general else (subject.trial,):
        reset = names(claim, trial.network, subject.settings)
        if not reset:
            return
        if claim == "all":
            reset |= set(trial.network.state_dict())
        others = [
            {n: v + 0.5 if n in reset and v.is_floating_point() else v for n, v in state.items()}
            for state in trial.originals.states
        ]
        one, two = trial.run(), trial.run(originals=others)
        if not subject.same(one.margins, two.margins):
            yield (
                f"`Resets: {claim}`, but what comes out depends on what these "
                f"parameters were ({', '.join(sorted(reset))}): is there a layer without "
                "reset_parameters?"
            )


def every_hyperparameter_is_used(subject: Subject) -> Iterator[str]:
    """Another value gives another model, or an error."""
    function = source_of(subject.method.function)
    code = getattr(function, "__code__", None) or type(function).__call__.__code__
    for name, value in subject.settings.items():
        others = list(_others(value))
        used = (
            any(_makes_a_difference(subject, name, other) for other in others)
            if others
            else _is_read(code, name)
        )
        if not used:
            tried = f" ({', '.join(map(repr, others))} tried)" if others else ""
            yield f"{name} = {value!r} makes no difference{tried}: is it used?"


CHECKS: tuple[Callable[[Subject], Iterator[str]], ...] = (
    originals_are_untouched,
    trains_what_it_says,
    every_forget_point_counts,
    no_validation_point_is_seen,
    the_same_seed_gives_the_same,
    the_pack_makes_no_difference,
    batchnorm_is_treated_as_said,
    resets_are_whole,
    every_hyperparameter_is_used,
)


def complaints(subject: Subject) -> dict[str, list[str]]:
    """What is wrong, by check; empty where the method does what it says."""
    if subject.method.changes_nothing:
        wrong = [] if subject.effect < 1e-9 else ["it says `changes_nothing`, and changes margins"]
        return {"it_changes_nothing": wrong} if wrong else {}
    if not np.isfinite(subject.unlearned.margins).all():
        return {
            "it_stays_finite": [
                f"margins are not finite after {subject.unlearned.epochs} epochs on "
                f"{subject.trial.small.train_points} points with {dict(subject.settings)}: nothing "
                "can be told of it; try a lower learning rate"
            ]
        }
    found = {check.__name__: list(check(subject)) for check in CHECKS}
    return {name: wrong for name, wrong in found.items() if wrong}


def _shared(subject: Subject) -> dict[str, Tensor]:
    """Copies of everything that outlives a run, by name."""
    trial = subject.trial
    found = {
        f"{name} of original {i}": tensor.clone()
        for i, state in zip(MEMBERS, trial.originals.states, strict=True)
        for name, tensor in state.items()
    }
    small, whole = trial.small.data_on(subject.device), subject.task.data
    for data, of in ((small, "the small task"), (whole, subject.task.name)):
        for name in ("x_train", "y_train", "x_val", "y_val"):
            found[f"{name} of {of}"] = getattr(data, name).clone()
    return found


def _changed(trial: Trial, outcome: Outcome, name: str) -> list[float]:
    """The share of a tensor's entries that changed, by member."""
    pairs = zip(trial.originals.states, outcome.states, strict=True)
    return [float(before[name].ne(after[name]).float().mean()) for before, after in pairs]


def _others(value: Any) -> Iterator[Any]:
    """Other values of a hyperparameter; none for one whose values cannot be guessed."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, 2 * value)
        while value := value // 2:  # a batch size matters only below the number of points
            yield value
    elif isinstance(value, float):
        factors = (2, 0.5, 10, 0.1, 1000, 0.001)
        yield from (value * f for f in factors) if value else (0.5,)
    elif isinstance(value, tuple) and value:
        yield from (value[1:], value[:-1], ())


def _makes_a_difference(subject: Subject, name: str, value: Any) -> bool:
    try:
        other = subject.trial.run(settings={**subject.settings, name: value})
    except Exception:
        return True  # the value was read, and refused
    return not subject.same(other.margins, subject.unlearned.margins)


def _is_read(code: CodeType, name: str) -> bool:
    """Whether code loads a variable; instructions of Python 3.13 may load two."""
    loads = (i.argval for i in dis.get_instructions(code) if i.opname.startswith("LOAD"))
    return any(
        name == found or (isinstance(found, tuple) and name in found) for found in loads
    ) or any(_is_read(inner, name) for inner in code.co_consts if isinstance(inner, CodeType))
