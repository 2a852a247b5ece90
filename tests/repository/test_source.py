"""Rules about the source that no linter here checks."""

import ast
import pathlib

import pytest

pytestmark = pytest.mark.no_backend

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = ("keras_patchpu", "patchpu")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
BACKENDS = {"tensorflow", "jax", "torch"}
# Public, whatever its name.
NOT_PRIVATE = {"os._exit"}
MAX_LINES = 300

# What runs what it reads, under the names by which it is usually called.
RUNS_CODE = {
    "eval",
    "exec",
    "__import__",
    "os.system",
    "os.popen",
    "yaml.unsafe_load",
    "yaml.full_load",
}
UNPICKLES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
LOADS_MODELS = "keras_patchpu/utils/safe_models.py"


def imported_names(node):
    """Full names that an import statement names, or nothing for another node."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def run_on_import(node):
    """The nodes that run when a module is imported: not those inside functions, or for types."""
    for child in ast.iter_child_nodes(node):
        for_types = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not for_types and not isinstance(
            child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
        ):
            yield child
            yield from run_on_import(child)


def loads_what_it_should_not(tree):
    """Pairs of line and what is wrong, about files that may be hostile."""
    safe_loaders = {"yaml.SafeLoader", "yaml.CSafeLoader"} | {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and [ast.unparse(base) for base in node.bases] == ["yaml.SafeLoader"]
    }
    for node in ast.walk(tree):
        names = set(imported_names(node))
        if UNPICKLES & {name.split(".")[0] for name in names}:
            yield node.lineno, "unpickles: a pickle can run code"
        if names & (RUNS_CODE | {"keras.saving.load_model", "keras.models.load_model"}):
            yield node.lineno, "imports by itself what the rules look for by its full name"
        if isinstance(node, ast.Attribute) and node.attr in ("load_model", "read_pickle"):
            yield node.lineno, f"{node.attr}: see {LOADS_MODELS}"
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if name in RUNS_CODE:
            yield node.lineno, f"{name} runs what it is given"
        if given.get("shell", "False") != "False":
            yield node.lineno, "starts a shell"
        if name in ("np.load", "numpy.load") and given.get("allow_pickle") != "False":
            yield node.lineno, "np.load without allow_pickle=False"
        if name in ("yaml.load", "yaml.load_all"):
            loader = given.get("Loader") or (ast.unparse(node.args[1]) if node.args[1:] else "")
            if loader not in safe_loaders:
                yield node.lineno, f"{name} without a safe loader"
        if name == "Image.open" and "formats" not in given:
            yield node.lineno, "Image.open without the formats that it may read"


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def private_names_of_others(tree):
    """Pairs of line and what is wrong, about names that are private to another module."""
    imported = set()
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        for alias in node.names:
            imported.add(alias.asname or alias.name.split(".")[0])
            if is_private(alias.name.split(".")[-1]):
                yield node.lineno, f"imports {alias.name}, which is private"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            name = ast.unparse(node)
            if name.split(".")[0] in imported and name not in NOT_PRIVATE:
                yield node.lineno, f"uses {name}, which is private"


def private_attributes_of_others(tree):
    """Lines that use an underscored attribute of what is neither self, cls nor super()."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            name = ast.unparse(node)
            if name.split(".")[0] not in ("self", "cls", "super()") and name not in NOT_PRIVATE:
                yield node.lineno, f"uses {name}, which is private"


def broken_rules(source, may_print=False, may_load_models=False):
    """List of `line: what is wrong`."""
    tree = ast.parse(source)
    found = [
        (line, rule)
        for line, rule in loads_what_it_should_not(tree)
        if not (may_load_models and rule.startswith("load_model"))
    ]
    found += private_names_of_others(tree)
    for node in run_on_import(tree):
        if BACKENDS & {name.split(".")[0] for name in imported_names(node)}:
            found.append((node.lineno, "imports a backend at top level"))
        # Who only trains has no need of it; the tool draws, and may.
        if (
            any(name.split(".")[0] == "matplotlib" for name in imported_names(node))
            and not may_print
        ):
            found.append((node.lineno, "imports matplotlib at top level"))
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


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_rules(path):
    may_print = name_of(path).startswith("patchpu/")
    may_load_models = name_of(path) == LOADS_MODELS
    assert broken_rules(path.read_text(), may_print, may_load_models) == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_what_keras_does_not_promise_is_in_one_place(path):
    found = list(private_attributes_of_others(ast.parse(path.read_text())))
    assert found == [] or name_of(path) == "keras_patchpu/utils/keras_internals.py"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_file_has_one_job(path):
    assert len(path.read_text().splitlines()) <= MAX_LINES


def test_all_modules_are_looked_at():
    assert {
        "keras_patchpu/__init__.py",
        "keras_patchpu/layers/patch_extractor.py",
        "patchpu/__main__.py",
        "patchpu/commands/train.py",
    } <= {name_of(path) for path in MODULES}


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
        ("from matplotlib.figure import Figure", 1),
        ("def f():\n    import matplotlib", 0),
        ("if TYPE_CHECKING:\n    from matplotlib.figure import Figure", 0),
        ("from keras.src import ops", 1),
        ("from keras import src", 1),
        ("import keras\nkeras.src.ops", 1),
        ("def f():\n    from keras.src.utils import file_utils", 1),
        ("assert True", 1),
        ("def f():\n    print(1)", 1),
        ("from keras import ops", 0),
        ("eval('1')", 1),
        ("exec('1')", 1),
        ("model.eval()", 0),
        ("os.system('ls')", 1),
        ("from os import system", 1),
        ("import pickle", 1),
        ("def f():\n    from pickle import loads", 1),
        ("import marshal", 1),
        ("subprocess.run('ls', shell=True)", 1),
        ("subprocess.run(['ls'], shell=wanted)", 1),
        ("subprocess.run(['ls'], shell=False)", 0),
        ("np.load(path)", 1),
        ("np.load(path, allow_pickle=True)", 1),
        ("np.load(path, 'r', allow_pickle=False)", 0),
        ("pandas.read_pickle(path)", 1),
        ("yaml.load(text)", 1),
        ("yaml.load(text, yaml.Loader)", 1),
        ("yaml.load(text, Loader=yaml.UnsafeLoader)", 1),
        ("yaml.load(text, Loader=yaml.SafeLoader)", 0),
        ("class Own(yaml.SafeLoader):\n    pass\nyaml.load(text, Own)", 0),
        ("class Own(yaml.Loader):\n    pass\nyaml.load(text, Own)", 1),
        ("yaml.unsafe_load(text)", 1),
        ("yaml.safe_load(text)", 0),
        ("keras.saving.load_model(path)", 1),
        ("keras.models.load_model(path, safe_mode=True)", 1),
        ("from keras.saving import load_model", 1),
        ("f = keras.saving.load_model", 1),
        ("Image.open(path)", 1),
        ("Image.open(path, formats=FORMATS)", 0),
        ("from package.module import _name", 1),
        ("from package.module import _name as name", 1),
        ("def f():\n    from package import _module", 1),
        ("import package._module", 1),
        ("import package.module\npackage.module._name()", 1),
        ("from package import module\nx = module._name", 1),
        ("from package import module as other\nother.Class._name", 1),
        ("from package._version import __version__", 0),
        ("import package\npackage.__doc__", 0),
        ("import os\nos._exit(1)", 0),
        ("def _name():\n    pass\n_name()", 0),
        ("class A:\n    def f(self, other):\n        return self._x + other._x", 0),
    ],
)
def test_the_rules_see_what_they_forbid(source, count):
    assert len(broken_rules(source)) == count


def test_what_is_allowed_in_some_places():
    assert broken_rules("print(1)", may_print=True) == []
    source = "keras.saving.load_model(path, safe_mode=True)"
    assert broken_rules(source, may_load_models=True) == []
    assert len(broken_rules(source, may_print=True)) == 1


def test_models_are_loaded_in_safe_mode():
    calls = [
        node
        for node in ast.walk(ast.parse((ROOT / LOADS_MODELS).read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("load_model")
    ]
    given = [{word.arg: ast.unparse(word.value) for word in call.keywords} for call in calls]
    assert [words.get("safe_mode") for words in given] == ["True"]
