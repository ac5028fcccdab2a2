"""Seven methods that are broken as public ones were, and their sound twins: `broken` switches."""

import copy
import itertools

import torch
from torch import nn

from klom_bench import per_model
from klom_bench.ensemble.losses import cross_entropy, kl

CPU = torch.device("cpu")


def descend(model, points, lr, epochs=1, **more):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, **more)
    for _ in range(epochs):
        for x, y in points.batches(16):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()


def scrub_like(teacher_of, held_by):
    """SCRUB in little: the teacher and what the optimizer holds are what may go wrong."""

    def method(model, forget, retain, *, lr=0.05):
        teacher = teacher_of(model)
        optimizer = torch.optim.SGD(held_by(model, teacher).parameters(), lr=lr)
        for _ in range(2):
            for x, y in retain.batches(32):
                optimizer.zero_grad()
                (cross_entropy(model(x), y) + kl(teacher(x).detach(), model(x))).backward()
                optimizer.step()
            for x, _ in forget.batches(32):
                optimizer.zero_grad()
                (-kl(teacher(x).detach(), model(x))).backward()
                optimizer.step()
        yield

    return method


def the_optimizer_holds_the_teachers_parameters(broken):
    return scrub_like(lambda m: m.clone(), lambda m, teacher: teacher if broken else m)


def the_teacher_is_a_shallow_copy(broken):
    return scrub_like(lambda m: copy.copy(m) if broken else m.clone(), lambda m, _: m)


def the_forget_set_is_cut(broken):
    def method(model, forget, retain, *, lr=0.05):
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        for x, y in itertools.islice(forget.batches(64), 2 if broken else None):
            optimizer.zero_grad()
            (-cross_entropy(model(x), y)).backward()
            optimizer.step()
        yield

    return method


def weight_decay_moves_masked_weights(broken):
    def method(model, forget, retain, *, share=0.5, weight_decay=0.1):
        """Saliency in little.

        Trains: share of the weights.
        """
        parameters = list(model.parameters())
        optimizer = torch.optim.SGD(parameters, lr=0.1, weight_decay=weight_decay)
        old = [p.detach().clone() for p in parameters]
        sums = [torch.zeros_like(p) for p in parameters]
        for x, y in forget.batches(64):
            gradients = torch.autograd.grad(cross_entropy(model(x), y), parameters)
            sums = [s + g for s, g in zip(sums, gradients, strict=True)]
        every = torch.cat([s.abs().flatten(1) for s in sums], 1)
        edge = every.sort(1).values[:, -int(share * every.shape[1])]
        masks = [s.abs() >= edge.view(-1, *[1] * (s.ndim - 1)) for s in sums]
        for x, y in forget.batches(64):
            optimizer.zero_grad()
            (-cross_entropy(model(x), y)).backward()
            for p, mask in zip(parameters, masks, strict=True):
                p.grad *= mask
            optimizer.step()
            if not broken:
                with torch.no_grad():
                    for p, mask, before in zip(parameters, masks, old, strict=True):
                        p.copy_(torch.where(mask, p, before))
        yield

    return method


def a_layer_without_reset_parameters_is_skipped(broken):
    """EU-k in little: the last k blocks anew, then fine-tuned on R."""

    def reset(child, fresh):
        for module, other in zip(child.modules(), fresh.modules(), strict=True):
            if not broken or hasattr(module, "reset_parameters"):
                own = dict(module.named_parameters(recurse=False))
                for name, value in other.named_parameters(recurse=False):
                    own[name].data.copy_(value)

    @per_model
    def method(model, forget, retain, *, k=1, lr=0.05):
        """Exact unlearning of the last blocks.

        Trains: last k.
        Resets: last k.
        Sees: retain.
        """
        blocks = [c for c in model.children() if any(True for _ in c.parameters())][-k:]
        last = list(model.children()).index(blocks[0])
        seed = int(torch.randint(2**31, (), generator=retain.points.generators[0]))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            anew = copy.deepcopy(model)
            for module in anew.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()
                elif hasattr(module, "scale"):
                    module.scale.data.uniform_(0.5, 1.5)
        for child, fresh in list(zip(model.children(), anew.children(), strict=True))[last:]:
            reset(child, fresh)
        optimizer = torch.optim.SGD([p for b in blocks for p in b.parameters()], lr=lr)
        model.eval()
        for x, y in retain.batches(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()

    return method


def train_mode_where_batchnorm_should_be_frozen(broken):
    def method(model, forget, retain, *, lr=0.05):
        """Fine-tuning.

        Sees: retain.
        BatchNorm: frozen.
        """
        if not broken:
            model.eval()
        descend(model, retain, lr)
        yield

    return method


def a_stale_cache_hides_that_nothing_is_done(broken):
    cache = {}

    def method(model, forget, retain, *, lr=0.05):
        key = "done" if broken else object()
        if key not in cache:
            descend(model, forget, lr)
            cache[key] = [p.detach().clone() for p in model.parameters()]
        with torch.no_grad():
            for p, done in zip(model.parameters(), cache[key], strict=True):
                p.copy_(done[:1].expand_as(p) if done.shape != p.shape else done)
        yield

    return method


OF_PUBLIC_CODE = {
    the_optimizer_holds_the_teachers_parameters: "trains_what_it_says",
    the_teacher_is_a_shallow_copy: "every_forget_point_counts",
    the_forget_set_is_cut: "every_forget_point_counts",
    weight_decay_moves_masked_weights: "trains_what_it_says",
    a_layer_without_reset_parameters_is_skipped: "resets_are_whole",
    train_mode_where_batchnorm_should_be_frozen: "batchnorm_is_treated_as_said",
    a_stale_cache_hides_that_nothing_is_done: "every_forget_point_counts",
}
