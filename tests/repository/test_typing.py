"""The public API has type hints: `mypy` checks them (`.ci/run`), and here none may be missing."""

import importlib
import inspect
import pathlib

import pytest

import keras_patchpu

pytestmark = pytest.mark.no_backend

ROOT = pathlib.Path(keras_patchpu.__file__).parents[1]
MODULES = (
    "layers losses models optimizers metrics callbacks datasets tagging export visualize".split()
)


def public(module):
    """Functions and classes that a room of the library offers."""
    return [value for name in module.__all__ if callable(value := getattr(module, name))]


def documented(cls):
    """The constructor of a class, and what it says of its own in docstrings, as functions."""
    for name, value in vars(cls).items():
        if isinstance(value, property):
            yield from (part for part in (value.fget, value.fset) if part is not None)
        value = getattr(value, "__func__", value)
        if inspect.isfunction(value) and (
            name == "__init__" or not name.startswith("_") and value.__doc__
        ):
            yield value


def without_hints(functions):
    """What lacks a hint: `function: argument`, or `function: return`."""
    for function in functions:
        signature = inspect.signature(function)
        names = [name for name in signature.parameters if name not in ("self", "cls")]
        for name in (*names, "return"):
            if name not in function.__annotations__:
                yield f"{function.__qualname__}: {name}"


@pytest.mark.parametrize("name", MODULES)
def test_every_public_function_has_hints(name):
    functions = []
    for value in public(importlib.import_module(f"keras_patchpu.{name}")):
        functions += documented(value) if inspect.isclass(value) else [value]
    assert functions
    assert list(without_hints(functions)) == []


def test_missing_hints_are_seen():
    class Half:
        def __init__(self, size: int, name=None) -> None:
            """Of two arguments one has a hint."""

        @property
        def side(self):
            return 1

        def call(self, x):
            """Documented."""

        def build(self, shape):
            pass

    found = [line.split("Half.")[1] for line in without_hints(documented(Half))]
    assert found == ["__init__: name", "side: return", "call: x", "call: return"]


def test_the_package_says_that_it_has_hints():
    assert (ROOT / "keras_patchpu" / "py.typed").exists()
