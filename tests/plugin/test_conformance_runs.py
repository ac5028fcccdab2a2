"""test_conformance as its users see it."""

import pytest

pytestmark = pytest.mark.no_cover  # others cover the same code, and tracing costs a fifth

BROKEN = """
    import pytest, torch
    from klom_bench.ensemble.losses import cross_entropy

    @pytest.fixture
    def mine():
        def unlearn(model, forget, retain, *, lr=0.1, unused=3):
            optimizer = torch.optim.SGD(model.parameters(), lr=lr)
            for x, y in retain.batches(64):
                optimizer.zero_grad()
                cross_entropy(model(x), y).backward()
                optimizer.step()
            yield
        return unlearn
"""


@pytest.fixture
def both(project, pytester):
    def run(*args, names="test_klom, test_conformance", **more):
        pytester.makepyfile(test_mine=f"from klom_bench.suite import {names}")
        sets = () if any("--klom-task" in arg for arg in args) else ("--klom-forget-set=1,2",)
        return project(*sets, *args, **more)

    return run


def test_it_runs_beside_the_scores(both):
    result = both("--klom-method=ga,random_label", "-v")
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(
        [
            "*test_conformance[[]digits-ga[]] PASSED*",
            "4 of 4 tests measured: 4 no gate",
            "conformance: 2 of 2 tests hold",
        ]
    )


def test_a_broken_method_fails_with_all_complaints(both):
    result = both("--klom-method=mine", conftest=BROKEN)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "mine does not do what it says",
            "  every forget point counts: no",
            "    13 of 13 forget points that were tried leave no trace*docstring: `Sees: retain`*",
            "  every hyperparameter is used: no",
            "    unused = 3 makes no difference (1, 0, 4, ... tried): is it used?",
            "2 of 2 tests measured: 2 no gate",
            "conformance: 0 of 1 tests hold",
        ]
    )


def test_it_may_run_alone(both):
    result = both("--klom-method=ga", names="test_conformance")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["conformance: 1 of 1 tests hold"])
    assert "tests measured" not in result.stdout.str()


def test_hyperparameters_of_the_command_line_are_those_that_are_tried(both):
    result = both("--klom-method=ga", "--klom-param=lr=1e9", names="test_conformance")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["  it stays finite: no", "*'lr': 1000000000.0*lower learning rate*"]
    )


def test_without_a_method_it_is_deselected(both):
    both(names="test_conformance").assert_outcomes(deselected=1)


def test_a_task_of_ones_own_with_batchnorm(both):
    """Built-in methods hold on a network that goes through vmap, too."""
    conftest = """
        import torch
        from torch import nn
        from klom_bench.ensemble.training import Recipe
        from klom_bench.tasks import Data, Task

        def pytest_klom_tasks(config):
            def load():
                g = torch.Generator().manual_seed(0)
                x, y = torch.randn(300, 1, 6, 6, generator=g), torch.arange(300) % 3
                x[range(300), 0, 0, y] += 2
                return Data(x[:200], y[:200], x[200:], y[200:], sha256="1")

            def network():
                return nn.Sequential(
                    nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
                )
            return [Task(name="pictures", architecture=network, load=load,
                         forget_sets={"ten": lambda: range(10)},
                         train=Recipe(epochs=3, batch_size=32, lr=0.05))]
    """
    result = both(
        "--klom-task=pictures",
        "--klom-method=ga,finetune,scrub,retrain",
        names="test_conformance",
        conftest=conftest,
    )
    result.assert_outcomes(passed=4)


def test_a_task_that_cannot_be_right_is_told_before_anything_is_tried(both):
    conftest = """
        def pytest_klom_tasks(config):
            import torch
            from klom_bench import Data, Recipe, Task, mlp
            x, y = torch.randn(300, 20), torch.arange(300) % 4
            data = Data(x[:200], y[:200], x[200:], y[200:])
            sets = {"first_ten": lambda: range(10)}
            one = lambda: mlp(20, 16, 3)
            return [Task(name="few", architecture=one, load=lambda: data, forget_sets=sets,
                         train=Recipe(1, 32, 0.1))]
    """
    result = both(
        "--klom-method=ga",
        "--klom-task=few",
        "--klom-forget-set=first_ten",
        names="test_conformance",
        conftest=conftest,
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["the model of task few gives 3 logits a point, and labels go up to 3*"]
    )
    assert "IndexError" not in result.stdout.str()
