"""More methods that are broken, and their sound twins: `broken` switches."""

import copy
import itertools

import numpy as np
import torch
from helpers.broken_public_methods import OF_PUBLIC_CODE, descend
from torch import nn

from klom_bench.ensemble.losses import cross_entropy
from klom_bench.tasks import DIGITS

CPU = torch.device("cpu")


def validation_points_are_used(broken):
    def method(model, forget, retain, *, lr=0.05):
        if broken:
            x = DIGITS.data.x_val[:3]
            model(x.expand(len(model), *x.shape))
        descend(model, forget, lr)
        yield

    return method


def randomness_is_global(broken):
    def method(model, forget, retain, *, sigma=0.01):
        descend(model, forget, 0.05)
        with torch.no_grad():
            for p in model.parameters():
                p += sigma * (torch.randn_like(p) if broken else model.noise_like(p))
        yield

    return method


def numpy_randomness_is_global(broken):
    def method(model, forget, retain, *, lr=0.05):
        descend(model, forget, lr * (np.random.rand() if broken else 0.5))
        yield

    return method


def the_loss_is_a_mean_over_members(broken):
    def method(model, forget, retain, *, lr=0.05):
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        for x, y in forget.batches(64):
            optimizer.zero_grad()
            (-cross_entropy(model(x), y) / (len(model) if broken else 1)).backward()
            optimizer.step()
        yield

    return method


def members_share_one_generator(broken):
    def method(model, forget, retain, *, sigma=0.01):
        descend(model, forget, 0.05)
        with torch.no_grad():
            for p in model.parameters():
                if broken:
                    p += sigma * torch.randn(p.shape, generator=model.generator(0))
                else:
                    p += sigma * model.noise_like(p)
        yield

    return method


def a_hyperparameter_is_not_used(broken):
    def method(model, forget, retain, *, lr=0.05, momentum=0.9):
        descend(model, forget, lr, epochs=2, momentum=0.5 if broken else momentum)
        yield

    return method


def a_word_is_not_used(broken):
    def not_read(model, forget, retain, *, order="random"):
        descend(model, forget, 0.05)
        yield

    def read(model, forget, retain, *, order="random"):
        descend(model, forget, {"random": 0.05}[order])
        yield

    return not_read if broken else read


def the_data_are_changed(broken):
    def method(model, forget, retain, *, lr=0.05):
        descend(model, forget, lr)
        retain.x.add_(0.001 if broken else 0)
        yield

    return method


def what_should_be_frozen_moves(broken):
    def method(model, forget, retain, *, lr=0.05):
        """Trains: 2.*"""
        chosen = [p for n, p in model.named_parameters() if broken or n.startswith("network.2")]
        optimizer = torch.optim.SGD(chosen, lr=lr)
        for x, y in forget.batches(64):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        yield

    return method


def a_layer_moves_by_weight_decay_alone(broken):
    def method(model, forget, retain, *, lr=0.05):
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, weight_decay=0.1)
        for x, y in forget.batches(64):
            optimizer.zero_grad()
            first = [p for n, p in model.named_parameters() if n.startswith("network.0")]
            for p in first:
                p.requires_grad_(not broken)
            cross_entropy(model(x), y).backward()
            for p in first:
                p.requires_grad_(True)
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            optimizer.step()
        yield

    return method


def the_forget_set_is_seen_after_all(broken):
    def method(model, forget, retain, *, lr=0.05):
        """Sees: retain."""
        descend(model, retain, lr)
        if broken:
            descend(model, forget, lr)
        yield

    return method


def it_changes_something(broken):
    def method(model, forget, retain):
        if broken:
            descend(model, forget, 0.05)
        yield

    method.changes_nothing = True
    return method


def it_diverges(broken):
    def method(model, forget, retain, *, lr=0.05):
        descend(model, forget, lr * (1e9 if broken else 1), epochs=3)
        yield

    return method


def data_are_changed_once_and_for_all(broken):
    def method(model, forget, retain, *, lr=0.05):
        descend(model, forget, lr)
        retain.x.clamp_(max=0.5 if broken else 100.0)
        yield

    return method


def only_the_first_forget_points_are_used(broken):
    def method(model, forget, retain, *, lr=0.05):
        some = copy.copy(forget)
        some.indices = forget.indices[..., : 50 if broken else None]
        descend(model, some, lr)
        yield

    return method


def only_the_first_batches_are_used(broken):
    def method(model, forget, retain, *, lr=0.05):
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        for x, y in itertools.islice(forget.batches(16), 3 if broken else None):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        yield

    return method


def validation_points_are_used_in_disguise(broken):
    def method(model, forget, retain, *, task, lr=0.05):
        descend(model, forget, lr)
        if broken:
            x, y = (
                t[:16].expand(len(model), *t[:16].shape) for t in (task.data.x_val, task.data.y_val)
            )
            cross_entropy(model.forward(x * 1.001), y).backward()
            with torch.no_grad():
                for p in model.parameters():
                    p -= lr * p.grad
        yield

    return method


def retain_points_are_seen_after_all(broken):
    def method(model, forget, retain, *, lr=0.05):
        """Sees: forget."""
        descend(model, forget, lr)
        if broken:
            descend(model, retain, lr)
        yield

    return method


def a_claim_in_lower_case_is_not_kept(broken):
    def method(model, forget, retain, *, lr=0.05):
        """trains: 2.*"""
        chosen = [p for n, p in model.named_parameters() if broken or n.startswith("network.2")]
        descend(SomeParameters(model, chosen), forget, lr)
        yield

    return method


class SomeParameters:
    def __init__(self, model, parameters):
        self.call, self.chosen = model, parameters

    def __call__(self, x):
        return self.call(x)

    def parameters(self):
        return self.chosen


def gradients_are_thrown_away(broken):
    def method(model, forget, retain, *, lr=0.05, weight_decay=0.1):
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, weight_decay=weight_decay)
        for x, y in forget.batches(64):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            if broken:
                for n, p in model.named_parameters():
                    if n.startswith("network.0"):
                        p.grad.zero_()
            optimizer.step()
        yield

    return method


def gradients_are_clipped_over_members(broken):
    """At 2 a pack of three is hardly clipped, a full one always is."""

    def method(model, forget, retain, *, lr=0.1, clip=2.0):
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        for x, y in forget.batches(64):
            optimizer.zero_grad()
            (-cross_entropy(model(x), y)).backward()
            if broken:
                nn.utils.clip_grad_norm_(model.parameters(), clip / 50)
            else:
                for p in model.parameters():
                    p.grad.clamp_(-clip / 50, clip / 50)
            optimizer.step()
        yield

    return method


def a_flag_is_not_read(broken):
    def not_read(model, forget, retain, *, verbose=False):
        descend(model, forget, 0.05)
        yield

    def read(model, forget, retain, *, verbose=False):
        descend(model, forget, 0.05)
        if verbose:
            print("done")
        yield

    return not_read if broken else read


OTHERS = {
    data_are_changed_once_and_for_all: "originals_are_untouched",
    only_the_first_forget_points_are_used: "every_forget_point_counts",
    only_the_first_batches_are_used: "every_forget_point_counts",
    validation_points_are_used_in_disguise: "no_validation_point_is_seen",
    retain_points_are_seen_after_all: "every_forget_point_counts",
    a_claim_in_lower_case_is_not_kept: "trains_what_it_says",
    gradients_are_thrown_away: "trains_what_it_says",
    gradients_are_clipped_over_members: "the_pack_makes_no_difference",
    a_flag_is_not_read: "every_hyperparameter_is_used",
    validation_points_are_used: "no_validation_point_is_seen",
    randomness_is_global: "the_same_seed_gives_the_same",
    numpy_randomness_is_global: "the_same_seed_gives_the_same",
    the_loss_is_a_mean_over_members: "the_pack_makes_no_difference",
    members_share_one_generator: "the_pack_makes_no_difference",
    a_hyperparameter_is_not_used: "every_hyperparameter_is_used",
    a_word_is_not_used: "every_hyperparameter_is_used",
    the_data_are_changed: "originals_are_untouched",
    what_should_be_frozen_moves: "trains_what_it_says",
    a_layer_moves_by_weight_decay_alone: "trains_what_it_says",
    the_forget_set_is_seen_after_all: "every_forget_point_counts",
    it_changes_something: "it_changes_nothing",
    it_diverges: "it_stays_finite",
}
DEFECTS = OF_PUBLIC_CODE | OTHERS
