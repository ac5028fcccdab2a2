"""Methods by name: built-in ones, and functions in a file."""

import importlib.util
import sys
from pathlib import Path

from klom_bench.errors import KlomError, unknown
from klom_bench.methods import BUILT_IN
from klom_bench.methods.method import Method, method_of


def method_named(text: str) -> Method:
    """A built-in method, or FILE.py:FUNCTION; KlomError where there is none."""
    path, colon, name = text.rpartition(":")
    if not colon:
        if text not in BUILT_IN:
            raise KlomError(f"{unknown('method', text, BUILT_IN)}, or FILE.py:FUNCTION")
        return BUILT_IN[text]
    file = Path(path)
    if not file.is_file():
        raise KlomError(f"{text}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise KlomError(f"{text}: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(file.stem, module)
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise KlomError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise KlomError(f"{text}: {path} has no function {name!r}")
    return method_of(name, getattr(module, name))
