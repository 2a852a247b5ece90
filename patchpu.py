"""The command `patchpu`. Answers what needs no framework at once, and hands over the rest.

It stands beside the package, not in it: importing `keras_patchpu` imports Keras, which takes
seconds.
"""

import contextlib
import importlib
import importlib.util
import os
import sys

# The commands: name, function that takes the arguments after the name, help. The module of the
# function must not import a framework, nor names of `keras_patchpu/__init__.py`, at top level;
# then its `--help` is quick too.
COMMANDS = {
    "train": ("keras_patchpu.cli:train", "train on images of which one label each is known"),
    "inspect": ("keras_patchpu.inspect_images:inspect", "look over your own images and labels"),
    "thresholds": (
        "keras_patchpu.thresholds:thresholds",
        "choose from which probability on a label is predicted",
    ),
    "predict": ("keras_patchpu.predict_command:predict", "tag images, and show where the tags are"),
    "merge": ("keras_patchpu.shards:merge", "put together what `predict --shard` wrote"),
    "demo": ("keras_patchpu.demo_command:demo", "open a page in the browser to try a model on"),
    "export": (
        "keras_patchpu.export_command:export",
        "write a model as ONNX, LiteRT, SavedModel",
    ),
    "card": ("keras_patchpu.card_command:card", "write a model card to share a model with"),
    "table1": ("keras_patchpu.table1_command:table1", "run the paper's Table 1, or another grid"),
}
# Commands that never import Keras themselves.
_WITHOUT_KERAS = ("merge", "table1")


def main(arguments=None):
    """Runs one command.

    Args:
        arguments: List of strings, the command's name first. Defaults to `None`: those of
            the process.

    Returns:
        `None`, or what the command returns.

    Raises:
        SystemExit: Code 0 after help or the version; code 2 and a message on stderr for
            what a user can mend.
    """
    own_process = arguments is None
    arguments = sys.argv[1:] if own_process else list(arguments)
    wanted, rest = (arguments[0], arguments[1:]) if arguments else ("no command", [])
    if wanted in COMMANDS:
        help_asked = not {"-h", "--help"}.isdisjoint(rest)
        if own_process and not help_asked:
            _use_huge_pages()
        light = help_asked or wanted in _WITHOUT_KERAS
        with _package_without_keras() if light else contextlib.nullcontext():
            return _function(wanted)(rest)
    if wanted in ("-h", "--help"):
        print(_usage())
        raise SystemExit(0)
    if wanted == "--version":
        with _package_without_keras():
            version = importlib.import_module("keras_patchpu._version").__version__
        print(f"patchpu {version}")
        raise SystemExit(0)
    print(_usage(), file=sys.stderr)
    print(f"patchpu: error: expected a command. Received: {wanted}", file=sys.stderr)
    raise SystemExit(2)


def _use_huge_pages():
    """Starts the process anew with glibc's memory in huge pages, unless the user chose.

    Every step takes and frees large arrays; in small pages the kernel clears them one by
    one, a third of a training step on JAX and PyTorch (benchmarks/README.md). glibc reads the
    setting only when a process starts.
    """
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _usage():
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items())
    return (
        "usage: patchpu COMMAND [options]\n"
        "       patchpu [COMMAND] --help\n"
        "       patchpu --version\n\n"
        f"{commands}"
    )


def _function(command):
    module, function = COMMANDS[command][0].split(":")
    return getattr(importlib.import_module(module), function)


@contextlib.contextmanager
def _package_without_keras():
    """While it lasts, submodules can be imported without `keras_patchpu/__init__.py` having run."""
    if "keras_patchpu" in sys.modules:
        yield
        return
    spec = importlib.util.find_spec("keras_patchpu")
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        # Whoever imports the package after this gets the whole one.
        for name in [name for name in sys.modules if name.split(".")[0] == spec.name]:
            del sys.modules[name]


if __name__ == "__main__":
    main()
