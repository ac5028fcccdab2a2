"""ResNets: the published shapes, and ensembles of them against single models."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from klom_bench.ensemble.ensemble import Ensemble, evaluating, initial_state, new_model
from klom_bench.ensemble.losses import cross_entropy
from klom_bench.models.resnet9 import resnet9
from klom_bench.models.resnet18 import resnet18

# Written down from the specification, layer by layer: (key, shape).
BN = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
CONVS = {
    "0": (64, 3, 3, 3),
    "1": (128, 64, 5, 5),
    "2.module.0": (128, 128, 3, 3),
    "2.module.1": (128, 128, 3, 3),
    "3": (256, 128, 3, 3),
    "5.module.0": (256, 256, 3, 3),
    "5.module.1": (256, 256, 3, 3),
    "6": (128, 256, 3, 3),
}


def test_resnet9_has_the_published_keys_and_shapes():
    expected = {"9.weight": (10, 128)}
    for block, shape in CONVS.items():
        expected[f"{block}.0.weight"] = shape
        for name in BN:
            expected[f"{block}.1.{name}"] = () if name == BN[-1] else shape[:1]
    network = resnet9()
    assert {k: tuple(v.shape) for k, v in network.state_dict().items()} == expected
    assert sum(p.numel() for p in network.parameters()) == 2_274_880


def test_resnet9_computes_what_the_paper_s_code_does():
    """A functional version, written from the description."""
    torch.manual_seed(0)
    network, x = resnet9(), torch.randn(3, 3, 32, 32)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)
    s = network.eval().state_dict()

    def conv(x, block, stride=1, padding=1):
        x = F.conv2d(x, s[f"{block}.0.weight"], stride=stride, padding=padding)
        mean, var, w, b = (
            s[f"{block}.1.{n}"].view(-1, 1, 1)
            for n in ("running_mean", "running_var", "weight", "bias")
        )
        return F.relu((x - mean) / (var + 1e-5).sqrt() * w + b)

    z = conv(conv(x, "0"), "1", stride=2, padding=2)
    z = z + conv(conv(z, "2.module.0"), "2.module.1")
    z = F.max_pool2d(conv(z, "3"), 2)
    z = z + conv(conv(z, "5.module.0"), "5.module.1")
    z = conv(z, "6", padding=0).amax((2, 3)) @ s["9.weight"].T * 0.2
    torch.testing.assert_close(network(x), z, rtol=1e-4, atol=1e-5)


def test_resnet18_is_torchvision_s_with_17_classes():
    shapes = {k: tuple(v.shape) for k, v in resnet18().state_dict().items()}
    assert shapes["fc.weight"] == (17, 512)
    assert shapes["conv1.weight"] == (64, 3, 7, 7)
    assert shapes["layer4.1.bn2.running_var"] == (512,)
    assert len(shapes) == 122


def narrow():
    return resnet9(width=4)


# The narrow one is stacked layer by layer, the others run member by member.
@pytest.mark.parametrize(
    ("architecture", "size"),
    [(narrow, 32), (resnet9, 32), (resnet18, 40)],
    ids=["narrow", "resnet9", "resnet18"],
)
def test_an_ensemble_is_its_members(architecture, size):
    """Logits, gradients, BatchNorm statistics and an SGD step of each single model."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 3, size, size, generator=g)
    y = torch.randint(10, (2, 6), generator=g)
    states = [initial_state(architecture, seed) for seed in (1, 2)]
    ensemble = Ensemble(architecture, states).train()
    optimizer = torch.optim.SGD(ensemble.parameters(), lr=0.01)
    z = ensemble(x)
    cross_entropy(z, y).backward()
    optimizer.step()
    after = ensemble.states()
    for i, state in enumerate(states):
        single = new_model(architecture).train()
        single.load_state_dict(state)
        logits = single(x[i])
        torch.testing.assert_close(z[i], logits, rtol=1e-3, atol=1e-4)
        F.cross_entropy(logits, y[i]).backward()
        torch.optim.SGD(single.parameters(), lr=0.01).step()
        for name, value in single.state_dict().items():
            torch.testing.assert_close(after[i][name], value, rtol=1e-2, atol=1e-3)
        assert after[i]["0.1.num_batches_tracked" if size == 32 else "bn1.num_batches_tracked"] == 1
    with evaluating(ensemble):
        assert not ensemble(x).requires_grad
