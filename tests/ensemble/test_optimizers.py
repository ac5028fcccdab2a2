import pytest
import torch

from klom_bench.ensemble.optimizers import SGD, Adam

OWN_METHOD = """
import sys
import pytest
import torch

compiler = lambda: "torch._dynamo" in sys.modules

@pytest.fixture
def mine():
    def mine(model, forget, retain):
        assert compiler()  # the method would else be charged for the import
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for x, y in retain.batches(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()
            optimizer.step()
        yield
    return mine

@pytest.fixture(autouse=True)
def first(request):
    yield
    ga = "ga" in request.node.name
    assert compiler() != ga
"""


@pytest.mark.parametrize(
    ("ours", "theirs", "given"),
    [
        (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3}),
        (Adam, torch.optim.Adam, {"lr": 0.01, "weight_decay": 1e-3}),
    ],
)
def test_numbers_and_hooks_are_those_of_torch(ours, theirs, given):
    def trained(kind):
        w = torch.linspace(-1, 1, 50).requires_grad_()
        optimizer, steps = kind([w], **given), []
        optimizer.register_step_pre_hook(lambda *_: steps.append(1))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
        for _ in range(5):
            optimizer.zero_grad()
            w.pow(3).sum().backward()
            optimizer.step()
            schedule.step()
        return w.detach(), len(steps)

    (w, steps), (torchs, torchs_steps) = trained(ours), trained(theirs)
    assert torch.equal(w, torchs)
    assert steps == torchs_steps == 5


@pytest.mark.processes
def test_only_a_method_of_ones_own_imports_the_compiler_and_before_the_clock_runs(project):
    run = project("--klom-method=ga,mine", "--klom-forget-set=3", conftest=OWN_METHOD, alone=True)
    run.assert_outcomes(passed=2)
