"""Installed packages with entry points: folders that are on the path."""

TASK = """
from klom_bench import Data, Recipe, Task, mlp

def load():
    import torch

    x, y = torch.randn(400, 20, generator=torch.Generator()), torch.arange(400) % 3
    x[range(400), y] += 3
    return Data(x[:300], y[:300], x[300:], y[300:])

def named(name):
    return Task(
        name=name,
        architecture=lambda: mlp(20, 16, 3),
        load=load,
        forget_sets={"first_ten": lambda: range(10)},
        train=Recipe(epochs=2, batch_size=32, lr=0.1),
    )

def several():
    return [named("first"), named("second")]

blobs, digits = named("blobs"), named("digits")
"""
METHOD = '''
def halves(model, forget, retain, *, by=0.5):
    """Multiplies all weights."""
    for p in model.parameters():
        p.data.mul_(by)
    yield

ga = halves
'''


def install(folder, name="my-package", tasks=(), methods=()):
    """A package with the entry points `NAME = module:attribute` of these two groups."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = ["[klom_bench.tasks]", *tasks, "[klom_bench.methods]", *methods]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
