"""The checks: each yields what is wrong, in words; nothing where all is well."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from klom_bench.conformance.claims import names, share
from klom_bench.conformance.hyperparameters import is_read, other_values
from klom_bench.conformance.small_task import MEMBERS, TRIED
from klom_bench.conformance.subject import Subject
from klom_bench.conformance.watching import Gradients, Outcome, rows
from klom_bench.ensemble.inputs import Inputs, count, is_dataset, tensors
from klom_bench.methods.descent import NAMES as SWITCHES
from klom_bench.methods.method import source_of

ROUNDING = 0.01
"""Below this share of what the method changed, another change of margins counts as rounding."""

TRACE = 1e-3
"""Below this share a forget point left no trace; built-in methods leave .05 or more (measured)."""


def originals_are_untouched(subject: Subject) -> Iterator[str]:
    """Neither the originals nor the data, which all tests share, are changed."""
    for name in subject.touched:
        yield f"{name} changed: a method may change the model that it is given, nothing else"


def trains_what_it_says(subject: Subject) -> Iterator[str]:
    """What is trained depends on the data that are given; all other parameters are as they were.

    Other data, so other gradients: a parameter that ends the same was moved by weight decay, by a
    reset or by nothing.
    """
    claims, values, small = subject.claims, subject.hyperparameters, subject.on_task
    said = names(claims.trains, small.network, values)
    allowed, trained = said | names(claims.resets, small.network, values), said - small.idle
    part = share(claims.trains, values)
    changed = {
        name: _changed(small.originals, subject.first, name)
        for name, _ in small.network.named_parameters()
    }
    everything = [range(small.forget_count)] * len(MEMBERS)
    other = small.run(replaced=everything, other_retain=True)
    for name, shares in changed.items():
        still = sum(s == 0 for s in shares)
        if name not in allowed and still < len(shares):
            yield f"{name} changed, but the docstring says `Trains: {claims.trains}`"
        elif name in trained and part is None and still:
            yield (
                f"{name} did not change in {still} of {len(shares)} members; a method that is not "
                "meant to train it says what it trains: `Trains: 2.*` or `Trains: last 1`"
            )
        elif (
            name in trained
            and part is None
            and 0 in _changed(other, subject.first, name)
            and not _gradient_differs(subject, name)
        ):
            yield (
                f"{name} changed, but alike for other data: no gradient reaches it (weight decay "
                "or a reset alone?)"
            )
    if part is not None:
        sizes = np.array([small.originals.states[0][name].numel() for name in changed])
        whole = sizes @ np.array(list(changed.values())) / sizes.sum()
        if whole.max() > part + 1 / sizes.sum() or whole.min() == 0:
            yield (
                f"{whole.min():.1%} to {whole.max():.1%} of the weights changed, but the docstring "
                f"says `Trains: {claims.trains}` ({part:.1%}); masked weights that weight decay or "
                "momentum moves must be restored"
            )


def _gradient_differs(subject: Subject, name: str) -> bool:
    """Whether other data give an optimizer another gradient of a parameter in every member.

    The first steps of Adam move every weight by the learning rate, by the sign of its gradient
    alone, so that other data may well give the same bits.
    """
    everything = [range(subject.on_task.forget_count)] * len(MEMBERS)
    mine: Gradients = {}
    others: Gradients = {}
    subject.on_task.run(gradients=mine)
    subject.on_task.run(gradients=others, replaced=everything, other_retain=True)
    pairs = zip(mine.get(name, ()), others.get(name, ()), strict=False)
    different = [a.ne(b).flatten(1).any(1) for a, b in pairs]
    return bool(different) and bool(torch.stack(different).any(0).all())


def every_forget_point_counts(subject: Subject) -> Iterator[str]:
    """Another point in the place of any forget point gives another model, or none does."""
    small = subject.on_task
    alone: list[list[int]] = [[], *([i] for i in small.tried)]
    margins = small.run([0] * len(alone), replaced=alone).margins
    traces = np.abs(margins[1:] - margins[0]).max(1) / subject.effect
    silent = [i for i, trace in zip(small.tried, traces, strict=True) if not trace > TRACE]
    if subject.claims.see("forget") and silent:
        yield (
            f"{len(silent)} of {TRIED} forget points that were tried leave no trace (the first is "
            f"number {silent[0] + 1} of {small.forget_count}): other points in their place give "
            "the same model. The set is cut, or what is learned from it has no gradient. A method "
            "that is not meant to look at it says so in its docstring: `Sees: retain` (or nothing)"
        )
    if not subject.claims.see("forget") and len(silent) < TRIED:
        yield f"forget points leave a trace, but the docstring says `Sees: {subject.claims.sees}`"
    if not subject.claims.see("retain"):
        other = small.run(other_retain=True)
        if not subject.same(other.margins, subject.first.margins):
            yield (
                f"retain points leave a trace, but the docstring says `Sees: {subject.claims.sees}`"
            )


def no_validation_point_is_seen(subject: Subject) -> Iterator[str]:
    """No val point was an input of any model, and other val points give the same model."""
    data, shape = subject.task.data, subject.seen.shape
    if is_dataset(data.x_train):  # reading all of it may take an hour
        data = subject.on_task.small.data

    def inputs(x: Inputs) -> set[bytes]:
        """As models see them: images are stored otherwise."""
        parts = torch.arange(count(x)).split(512)
        return set().union(*(rows(tensors(data.seen(x, part))[0], shape) for part in parts))

    seen = subject.seen.inputs & (inputs(data.x_val) - inputs(data.x_train))
    if seen:
        yield f"{len(seen)} validation points were given to a model"
    other, points = subject.on_task.run(other_val=True), subject.on_task.small.train_points
    if not subject.same(other.margins[:, :points], subject.first.margins[:, :points]):
        yield "other validation points give another model"


def the_same_seed_gives_the_same(subject: Subject) -> Iterator[str]:
    """The second run finds the global random states where the first left them."""
    again = subject.on_task.usual.margins
    if not subject.same(again, subject.first.margins):
        yield (
            f"margins differ by up to {np.nanmax(np.abs(again - subject.first.margins)):.2g} "
            "between two runs: take randomness from model.generator(i), not from torch, NumPy or "
            "random"
        )


def the_pack_makes_no_difference(subject: Subject) -> Iterator[str]:
    """Members do not depend on those that are computed with them."""
    alone = np.concatenate([subject.on_task.run([i]).margins for i in MEMBERS])
    full = (MEMBERS * subject.task.pack)[: max(subject.task.pack, len(MEMBERS))]
    together = subject.on_task.run(full).margins[: len(MEMBERS)]
    difference = float(np.abs(alone - together).mean())
    if not difference <= ROUNDING * subject.effect:
        yield (
            f"margins of members that are computed one by one differ from those of {len(full)} "
            f"together by {difference:.2g} in the mean, {difference / subject.effect:.0%} of what "
            "the method changes: sum losses over members (klom_bench.cross_entropy), clip "
            "gradients member by member, let each draw from its own generator"
        )


def batchnorm_is_treated_as_said(subject: Subject) -> Iterator[str]:
    """`BatchNorm: frozen` leaves the running statistics alone, `updated` does not."""
    said = subject.claims.batchnorm
    if subject.hyperparameters.get("freeze_batchnorm") is True:  # asked for, rather than said
        said = "frozen"
    if not said:
        return
    for small in subject.runs:
        statistics = [
            n for n in small.network.state_dict() if n.endswith(("running_mean", "running_var"))
        ]
        if not statistics:
            continue
        moved = [n for n in statistics if any(_changed(small.originals, small.usual, n))]
        if said == "frozen" and moved:
            yield (
                f"BatchNorm statistics should be frozen, but {', '.join(moved)} changed on "
                f"{'a stand-in network' if small is subject.probe else 'the network'}: "
                "call model.eval() before training"
            )
        if said == "updated" and len(moved) < len(statistics):
            yield "BatchNorm statistics should be updated, but some did not change"


def resets_are_whole(subject: Subject) -> Iterator[str]:
    """What is reset does not depend on what was there before."""
    claim = subject.claims.resets
    general = claim == "all" or claim.startswith("last ")  # the probe's names are its own
    for small in subject.runs if general else [subject.on_task]:
        reset = names(claim, small.network, subject.hyperparameters)
        if not reset:
            return
        if claim == "all":
            reset |= set(small.network.state_dict())
        others = [
            {n: v + 0.5 if n in reset and v.is_floating_point() else v for n, v in state.items()}
            for state in small.originals.states
        ]
        if not subject.same(small.run(originals=others).margins, small.usual.margins):
            yield (
                f"`Resets: {claim}`, but what comes out depends on what these "
                f"parameters were ({', '.join(sorted(reset))}): is there a layer without "
                "reset_parameters?"
            )


def every_hyperparameter_is_used(subject: Subject) -> Iterator[str]:
    """Another value gives another model, or an error; words and flags must at least be read."""
    function = source_of(subject.method.function)
    code = getattr(function, "__code__", None) or type(function).__call__.__code__
    own = inspect.signature(function).parameters
    for name, value in subject.hyperparameters.items():
        if name in SWITCHES and name not in own:
            continue  # not the method's doing
        others = other_values(value, subject.method.choices.get(name, ()))
        used = any(_makes_a_difference(subject, name, other) for other in others)
        if not isinstance(value, int | float | tuple) or isinstance(value, bool):
            used = used or is_read(code, name)
        if not used:
            tried = ", ".join(f"{other!r:.20}" for other in others[:3])
            more = f" ({tried}{', ...' if len(others) > 3 else ''} tried)" if tried else ""
            yield (f"{name} = {value!r:.40} makes no difference{more}: is it used?")


MODEL = "the_model_repeats_itself"
"""Named where it is the model that does not, and no method is to blame."""
BASIC = (originals_are_untouched, the_same_seed_gives_the_same)
CHECKS: tuple[Callable[[Subject], Iterator[str]], ...] = (
    *BASIC,
    trains_what_it_says,
    every_forget_point_counts,
    no_validation_point_is_seen,
    the_pack_makes_no_difference,
    batchnorm_is_treated_as_said,
    resets_are_whole,
    every_hyperparameter_is_used,
)


def complaints(subject: Subject) -> dict[str, list[str]]:
    """What is wrong, by check; empty where the method does what it says."""
    if subject.method.traits.changes_nothing:
        wrong = [] if subject.effect < 1e-9 else ["it says `changes_nothing`, and changes margins"]
        return {"it_changes_nothing": wrong} if wrong else {}
    if not np.isfinite(subject.first.margins).all():
        return {
            "it_stays_finite": [
                f"margins are not finite after {subject.first.epochs} epochs on "
                f"{subject.on_task.small.train_points} points with "
                f"{dict(subject.hyperparameters)}: "
                "nothing can be told of it; try a lower learning rate"
            ]
        }
    if not subject.changed:
        return {
            "trains_what_it_says": [
                "no parameter changed in any member: is there a step of the optimizer, over the "
                "parameters of `model`? (nothing else was tried)"
            ]
        }
    unseeded = subject.task.signature.unseeded
    if unseeded and list(the_same_seed_gives_the_same(subject)):
        return {
            MODEL: [
                f"{'; '.join(unseeded)}, so that no two runs of any method are the same: what "
                "draws from torch's generator draws from the members' streams here, others do not. "
                "Nothing can be told of the method"
            ]
        }
    found: dict[str, list[str]] = {}
    for check in CHECKS:
        wrong = list(check(subject))
        if wrong:
            found[check.__name__] = wrong
        if wrong and check in BASIC:
            wrong.append("the other checks compare runs, so they were not tried")
            break
    return found


def _changed(before: Outcome, after: Outcome, name: str) -> list[float]:
    """The share of a tensor's entries that differ, by member."""
    pairs = zip(before.states, after.states, strict=True)
    return [float(one[name].ne(two[name]).float().mean()) for one, two in pairs]


def _makes_a_difference(subject: Subject, name: str, value: Any) -> bool:
    """On the task's architecture, or on that with BatchNorm."""
    values = {**subject.hyperparameters, name: value}
    for small in subject.runs:
        try:
            other = small.run(hyperparameters=values)
        except Exception:
            return True  # the value was read, and refused
        if not subject.same(other.margins, small.usual.margins):
            return True
    return False
