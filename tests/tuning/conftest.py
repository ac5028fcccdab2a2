import pytest
from helpers.tuning import SMALL

from klom_bench.cli import main


@pytest.fixture(scope="session")
def tuned(tmp_path_factory):
    """A store, and the file of four trials of ga."""
    root = tmp_path_factory.mktemp("tuning")
    assert main(["tune", "ga", *SMALL, "--store", str(root)]) == 0
    return root, root / "tuning" / "digits" / "ga.json"
