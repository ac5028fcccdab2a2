"""Write a file of constraints: of each dependency the lowest version that pyproject.toml allows."""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
named = [*project["dependencies"], *project["optional-dependencies"]["test"]]
bounds = [re.fullmatch(r"([\w-]+)>=([\d.]+)(,.*)?", text) for text in named]
if None in bounds:
    raise SystemExit(f"no lowest version: {named[bounds.index(None)]}")
lines = [f"{bound[1]}=={bound[2]}" for bound in bounds if bound]
Path(sys.argv[1]).write_text("\n".join(lines) + "\n")
