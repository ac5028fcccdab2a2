"""A tiny task as a user may write it into any file, and methods; `happens` makes processes die."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from klom_bench import Data, KlomError, Task

DRIVER = os.getpid()
"""The process that reads this file: workers of Ray are sent what it defines."""


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)))


def load():
    assert os.getpid() == DRIVER, "a worker has read data that may be others there"
    x = torch.randn(90, 6, generator=torch.Generator().manual_seed(0))
    y = (x.sum(1) > 0).long() + (x[:, 0] > 1).long()
    return Data(x[:60], y[:60], x[60:], y[60:])


def train(model, points, *, epochs=2):
    if os.environ.get("BLOBS"):
        happens(Path(os.environ["BLOBS"]))
    yield from steps(model, points, epochs)


def steps(model, points, epochs):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for _ in range(epochs):
        for x, y in points.batches(20):
            optimizer.zero_grad()
            model.loss(x, y).backward()
            optimizer.step()
        yield


def happens(folder):
    """Note that a pack is begun. `kill` in the folder ends one process, `hold` has others wait."""
    with (folder / "begun").open("a") as file:
        file.write(f"{os.getpid()}\n")
    number = len((folder / "begun").read_text().splitlines())
    if (folder / "kill").exists():
        (folder / "kill").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    while (folder / "hold").exists() and number > int((folder / "hold").read_text()):
        time.sleep(0.02)


def mine(model, forget, retain, *, epochs=1):
    yield from steps(model, retain, epochs)


def refuses(model, forget, retain):
    raise KlomError("use a smaller step")
    yield


def breaks(model, forget, retain):
    raise ValueError("odd numbers")
    yield


class Own(Exception):
    """Made of others than what it keeps."""

    def __init__(self, number, unit):
        super().__init__(f"{number} {unit}")
        self.number = number


def raises_its_own(model, forget, retain):
    raise Own(3, "steps")
    yield


def skips(model, forget, retain):
    pytest.skip("not on Sundays")
    yield


def stops(model, forget, retain):
    raise KeyboardInterrupt("by itself")
    yield


def chains(model, forget, retain):
    try:
        _ = 1 / 0
    except ZeroDivisionError as error:
        raise ValueError("no step") from error
    yield


def dies(model, forget, retain):
    os.kill(os.getpid(), signal.SIGKILL)
    yield


def leaves(model, forget, retain):
    raise SystemExit("no more")
    yield


def locked():
    lock = threading.Lock()

    def unlearn(model, forget, retain):
        with lock:
            yield from steps(model, retain, 1)

    return unlearn


def blobs():
    sets = {"ten": lambda: range(10)}
    return Task(name="blobs", architecture=Net, load=load, forget_sets=sets, train=train, pack=2)
