from dataclasses import replace

import huggingface_hub.constants
import pytest
import torch
from helpers.hub_server import REPO, HubServer
from helpers.layouts import STATES
from helpers.repository import DIGITS, repository, set_endpoint

from klom_bench import cli
from klom_bench.store.store import Store
from klom_bench.tasks import BUILT_IN
from klom_bench.tasks.published import Published


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The server, which $KLOM_REPO and the endpoint point to; `digits` counts as published."""
    server = HubServer(repository())
    set_endpoint(monkeypatch, server.url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("KLOM_REPO", REPO)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    sets = {
        name: (DIGITS.size(name), DIGITS.forget_set(name).sha256) for name in DIGITS.forget_sets
    }
    published = replace(DIGITS, published=Published(1438, "DIGITS", sets))
    monkeypatch.setitem(BUILT_IN, "digits", published)
    yield server
    server.shutdown()


@pytest.fixture
def run_klom(tmp_path, capsys):
    def run(*args):
        code = cli.main([*args, "--store", str(tmp_path / "store")])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def checkpoints(tmp_path):
    """A store with four originals of digits; spoil(i, state) writes another file for one."""
    folder = tmp_path / "full_models/DIGITS"
    folder.mkdir(parents=True)

    def spoil(i, content):
        torch.save(content, folder / f"sd_{i}____epoch_19.pt")

    for i, state in enumerate(STATES):
        spoil(i, state)
    return Store(tmp_path, "error"), folder, spoil
