import json

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
    found = json.loads(path.read_text())["benchmarks"]
    return [b["extra_info"]["klom"] for b in found]
