"""What a function of the user does, as a hash: the same whatever is said in comments."""

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

PLAIN = (bool, int, float, str, bytes, tuple, frozenset, type(None))


def code_sha256(function: Callable[..., Any]) -> str:
    """SHA-256 of a function's syntax tree, and of what it names of its own file.

    Comments, docstrings and the defaults of keyword-only arguments (which are hyperparameters) are
    left out; functions and classes of the same file, and plain values, are followed by their names.
    """
    parts = sorted(f"{name} = {text}" for name, text in _followed(inspect.unwrap(function)).items())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _followed(first: Callable[..., Any]) -> dict[str, str]:
    """What counts, by name."""
    found: dict[str, str] = {}
    left = [(getattr(first, "__name__", "function"), first)]
    while left:
        name, thing = left.pop()
        if name in found:
            continue
        if isinstance(thing, PLAIN):
            found[name] = repr(thing)
            continue
        tree = _tree(thing)
        found[name] = ast.unparse(tree) if tree else _bytecode(thing)
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} if tree else ()
        left += [(n, v) for n, v in _known(thing, names) if _is_own(v, thing)]
    return found


def _tree(thing: Any) -> ast.AST | None:
    """The syntax tree of a function or class, without what does not count; None without source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):  # from a prompt, or a lambda in the midst of a line
        return None
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef):
            node.args.kw_defaults = [None for _ in node.args.kw_defaults]
    return tree


def _bytecode(thing: Any) -> str:
    code = getattr(thing, "__code__", None)
    return f"{code.co_code!r} {code.co_names}" if code else repr(type(thing))


def _known(thing: Any, names: Any) -> Iterator[tuple[str, Any]]:
    """Those of these names that a function or a class can see."""
    functions = [*vars(thing).values()] if isinstance(thing, type) else [thing]
    for function in filter(inspect.isfunction, functions):
        inner = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        seen = {**function.__globals__, **{n: c.cell_contents for n, c in inner if _is_set(c)}}
        yield from ((name, seen[name]) for name in names if name in seen)


def _is_set(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # it is given a value later
        return False


def _is_own(value: Any, by: Any) -> bool:
    """Whether it is a plain value, or a function or class of the same file."""
    if isinstance(value, ModuleType):
        return False
    if isinstance(value, PLAIN):
        return True
    value = inspect.unwrap(value) if callable(value) else value
    written = inspect.isfunction(value) or inspect.isclass(value)
    return written and value.__module__ == getattr(by, "__module__", None)
