from helpers.processes import benchmarks

COUNTING = """
    import pytest, torch
    from klom_bench.ensemble.losses import cross_entropy

    SEEN = []

    @pytest.fixture
    def mine():
        def unlearn(model, forget, retain, *, lr=0.1, epochs=4, mode="up", sizes=(1, 2)):
            optimizer = torch.optim.SGD(model.parameters(), lr=lr)
            for epoch in range(epochs):
                for x, y in forget.batches(64):
                    optimizer.zero_grad()
                    (-cross_entropy(model(x), y)).backward()
                    optimizer.step()
                print("an epoch of", mode, sizes)
                yield
        return unlearn
"""


def records(path):
    """The KLOM records of a benchmark JSON."""
    return [benchmark["extra_info"]["klom"] for benchmark in benchmarks(path)]
