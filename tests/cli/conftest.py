import shutil

import pytest
from helpers.margin_files import N

from klom_bench import cli


@pytest.fixture
def run(capsys):
    def run(*args):
        code = cli.main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Twelve originals and oracles of forget_set_5, trained by the command."""
    store = tmp_path_factory.mktemp("cli") / "store"
    args = ["train", "digits", "--forget-set", "5", "--models", str(N), "--store", str(store)]
    assert cli.main(args) == 0
    return store


@pytest.fixture
def store(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "store", ignore=shutil.ignore_patterns(".claims"))
    return tmp_path / "store"
