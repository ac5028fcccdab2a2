"""What a function of the user does, as a hash: the same whatever is said in comments."""

import ast
import hashlib
import inspect
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from klom_bench.tasks.data import sha256_of_tensor

PLAIN = (bool, int, float, complex, str, bytes, type(None))


@lru_cache(maxsize=256)
def code_sha256(function: Callable[..., Any], trains: bool = False) -> str:
    """SHA-256 of a function's syntax tree, and of what it names of the user's own code.

    Comments and docstrings are left out; functions, classes and values of its file and of other
    files of the user's, and those that it was made with, are followed by their names. What is
    installed counts by its name alone. trains: the defaults of its keyword-only arguments are
    hyperparameters, and left out. Computed once a process, before anything may have changed such
    values.
    """
    walk = _Walk()
    first = walk.text(function, trains)
    parts = [first, *(f"{name} = {text}" for name, text in sorted(walk.found.items()))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def value_text(value: Any) -> str:
    """A value in words that are the same in every process; functions by their code."""
    return _Walk().text(value)


class _Walk:
    """What a function names, by name; `found` holds what is the user's own."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def text(self, value: Any, trains: bool = False) -> str:
        """What a value is; functions and classes of the user are noted, and called by name."""
        if isinstance(value, PLAIN):
            return repr(value)
        if isinstance(value, torch.Tensor):
            return f"tensor {sha256_of_tensor(value)}"
        if isinstance(value, np.ndarray):
            content = np.ascontiguousarray(value).tobytes()
            return f"array {value.dtype} {value.shape} {hashlib.sha256(content).hexdigest()}"
        if isinstance(value, Mapping):
            pairs = (f"{self.text(k)}: {self.text(v)}" for k, v in value.items())
            return f"{{{', '.join(sorted(pairs))}}}"
        if isinstance(value, list | tuple):
            return f"[{', '.join(map(self.text, value))}]"
        if isinstance(value, set | frozenset):
            return f"{{{', '.join(sorted(map(self.text, value)))}}}"
        if isinstance(value, partial):
            return f"partial({self.text([value.func, value.args, value.keywords])})"
        if inspect.ismethod(value):
            return f"{self.text(value.__func__)} of {self.text(value.__self__)}"
        value = inspect.unwrap(value) if callable(value) else value
        if inspect.isfunction(value) or inspect.isclass(value):
            return self._defined(value, trains)
        if inspect.isbuiltin(value) or isinstance(value, ModuleType):
            return str(getattr(value, "__name__", value))
        kind = self.text(type(value))
        if isinstance(value, nn.Module):
            own = {n: v for n, v in vars(value).items() if n[0] != "_" and isinstance(v, PLAIN)}
            return f"{kind} {value} {self.text(own)}"
        state = getattr(value, "__dict__", None)
        return f"{kind} {self.text(state)}" if state is not None else kind

    def _defined(self, thing: Any, trains: bool) -> str:
        name = f"{thing.__module__}.{thing.__qualname__}"
        if is_installed(str(thing.__module__)):
            return name
        if name.endswith("<lambda>"):  # there may be many
            name = f"{name} {id(thing)}"
        first = not self.found
        if name not in self.found:
            self.found[name] = ""
            tree = _tree(thing)
            if tree is None:
                own = [_bytecode(thing.__code__)] if inspect.isfunction(thing) else []
                names = _names(thing.__code__) if inspect.isfunction(thing) else set()
            else:
                _strip(tree, trains and first)
                own = [ast.unparse(tree)]
                names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            own += [f"{n} is {self._named(n, v, thing)}" for n, v in sorted(_seen(thing, names))]
            self.found[name] = "\n".join(own)
        text = self.found[name]
        if "<lambda>" in name:
            del self.found[name]
            return text
        return f"{thing.__qualname__} {hashlib.sha256(text.encode()).hexdigest()}"

    def _named(self, name: str, value: Any, by: Any) -> str:
        """What a name stands for; mutable values of a file as they are written there."""
        if isinstance(value, list | dict | set) and (written := _assigned(by, name)):
            return written
        return self.text(value)


@lru_cache(maxsize=4096)
def is_installed(module: str) -> bool:
    """Whether a module is Python's, this package's or installed, and not of the user's project."""
    if module.partition(".")[0] in ("builtins", "klom_bench"):
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:  # of a prompt, or of C
        return module not in ("__main__", "") and module in sys.builtin_module_names
    path = Path(file)
    installed = {"site-packages", "dist-packages"} & {*path.parts}
    return bool(installed) or path.is_relative_to(sysconfig.get_path("stdlib"))


def _tree(thing: Any) -> ast.AST | None:
    """The syntax tree of a function or class; None without source."""
    try:
        if getattr(thing, "__name__", "") == "<lambda>":
            return _lambda(thing)
        return ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):  # from a prompt
        return None


def _lambda(function: Any) -> ast.AST | None:
    """The lambda of a file whose body stands where the bytecode says."""
    lines, _ = inspect.findsource(function)
    places = {*function.__code__.co_positions()}
    for node in ast.walk(ast.parse("".join(lines))):
        if isinstance(node, ast.Lambda):
            body = node.body
            place = (body.lineno, body.end_lineno, body.col_offset, body.end_col_offset)
            if place in places and node.lineno == function.__code__.co_firstlineno:
                return node
    return None


def _strip(tree: ast.AST, trains: bool) -> None:
    """Leave out docstrings, and the defaults that are hyperparameters."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    outer = next((n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.Lambda)), None)
    if trains and outer is not None:
        outer.args.kw_defaults = [None for _ in outer.args.kw_defaults]


def _bytecode(code: CodeType) -> str:
    inner = [_bytecode(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return f"{code.co_code!r} {code.co_names} {inner}"


def _names(code: CodeType) -> set[str]:
    inner = [_names(c) for c in code.co_consts if isinstance(c, CodeType)]
    return {*code.co_names, *code.co_freevars}.union(*inner)


def _seen(thing: Any, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Those of these names that a function or a class can see, but for modules."""
    functions = [*vars(thing).values()] if isinstance(thing, type) else [thing]
    found: dict[str, Any] = {}
    for function in filter(inspect.isfunction, functions):
        inner = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        found |= {**function.__globals__, **{n: c.cell_contents for n, c in inner if _is_set(c)}}
    for name in names:
        if name in found and not isinstance(found[name], ModuleType):
            yield name, found[name]


def _is_set(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # it is given a value later
        return False


def _assigned(thing: Any, name: str) -> str:
    """The right side of a name's assignment in the file of a function or class, if there is one."""
    try:
        lines, _ = inspect.findsource(thing)
        tree = ast.parse("".join(lines))
    except (OSError, TypeError, SyntaxError):
        return ""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(t, ast.Name) and t.id == name for t in targets):
            value = getattr(node, "value", None)
            return ast.unparse(value) if value is not None else ""
    return ""
