"""Rules about the source that no linter here checks."""

import ast
import pathlib

import pytest

import keras_patchpu

PACKAGE = pathlib.Path(keras_patchpu.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
BACKENDS = {"tensorflow", "jax", "torch"}
MAY_PRINT = (
    "cli.py",
    "experiments/",
    "inspect_images.py",
    "predict_command.py",
    "table1_command.py",
    "thresholds.py",
)


def imported_names(node):
    """Full names that an import statement names, or nothing for another node."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def run_on_import(node):
    """The nodes that run when a module is imported: not those inside functions."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield child
            yield from run_on_import(child)


def broken_rules(source, may_print=False):
    """List of `line: what is wrong`."""
    tree = ast.parse(source)
    found = []
    for node in run_on_import(tree):
        if BACKENDS & {name.split(".")[0] for name in imported_names(node)}:
            found.append((node.lineno, "imports a backend at top level"))
    for node in ast.walk(tree):
        if any(
            name == "keras.src" or name.startswith("keras.src.") for name in imported_names(node)
        ):
            found.append((node.lineno, "imports keras.src, which may change with any release"))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "keras.src":
            found.append((node.lineno, "uses keras.src, which may change with any release"))
        if isinstance(node, ast.Assert):
            found.append((node.lineno, "asserts: raise an error with a message"))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print" and not may_print:
            found.append((node.lineno, "prints"))
    return [f"{line}: {rule}" for line, rule in sorted(set(found))]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_rules(path):
    relative = path.relative_to(PACKAGE).as_posix()
    assert broken_rules(path.read_text(), may_print=relative.startswith(MAY_PRINT)) == []


def test_all_modules_are_looked_at():
    names = {path.relative_to(PACKAGE).as_posix() for path in MODULES}
    assert {"__init__.py", "layers/patch_extractor.py", "losses/weak_negative.py"} <= names


@pytest.mark.parametrize(
    "source, count",
    [
        ("import tensorflow as tf", 1),
        ("from jax import numpy", 1),
        ("if True:\n    import torch.nn", 1),
        ("try:\n    import torch\nexcept ImportError:\n    pass", 1),
        ("class A:\n    import torch", 1),
        ("def f():\n    import torch", 0),
        ("import tensorflow_datasets", 0),
        ("from keras.src import ops", 1),
        ("from keras import src", 1),
        ("import keras\nkeras.src.ops", 1),
        ("def f():\n    from keras.src.utils import file_utils", 1),
        ("assert True", 1),
        ("def f():\n    print(1)", 1),
        ("from keras import ops", 0),
    ],
)
def test_the_rules_see_what_they_forbid(source, count):
    assert len(broken_rules(source)) == count


def test_printing_where_it_is_allowed():
    assert broken_rules("print(1)", may_print=True) == []
