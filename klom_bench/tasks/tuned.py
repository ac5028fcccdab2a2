"""Hyperparameters of a task that `klom tune` found, as files of the package."""

import json
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from operator import itemgetter
from typing import Any


def tunings(folder: Traversable) -> dict[str, dict[str, Any]]:
    """The files of `klom tune` in a folder, by method."""
    files = [file for file in folder.iterdir() if file.name.endswith(".json")]
    contents = [json.loads(file.read_bytes()) for file in files]
    return {content["method"]: content for content in sorted(contents, key=itemgetter("method"))}


def provenance(tuning: Mapping[str, Any]) -> dict[str, Any]:
    """What records say of how hyperparameters were found."""
    kept = ("objective", "forget_sets", "seed", "members")
    return {"trials": len(tuning["trials"]), **{name: tuning[name] for name in kept}}
