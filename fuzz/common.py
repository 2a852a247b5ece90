"""What the fuzz targets share: imports that the fuzzer follows, seeds, and libFuzzer's options."""

import contextlib
import pathlib
import shutil
import sys
import tempfile

import atheris

HERE = pathlib.Path(__file__).resolve().parent
OPTIONS = {"timeout": 60, "rss_limit_mb": 6144, "print_final_stats": 1}


@contextlib.contextmanager
def instrumented(*others):
    """While it lasts, modules of the packages, and of `others`, tell the fuzzer where they go."""
    sys.path.insert(0, str(HERE.parent))
    with atheris.instrument_imports(include=["keras_patchpu", "patchpu", *others]):
        yield


def work_folder(name):
    """An empty folder of a target, in memory where that can be. libFuzzer lets nobody clean up."""
    memory = pathlib.Path("/dev/shm")
    folder = (memory if memory.is_dir() else pathlib.Path(tempfile.gettempdir())) / f"fuzzed-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def message_of(error):
    """The message of an error that a user may see; it must say something."""
    text = str(error)
    if len(text.strip()) < 10:
        raise RuntimeError(f"{type(error).__name__} without a message: {text!r}") from error
    return text


def fuzz(name, target, seeds, dictionary=None):
    """Runs libFuzzer over a target; the process ends with it.

    Args:
        name: Of the target. Without a folder on the command line the corpus is `fuzz-NAME` in
            the temporary folder, where the next call goes on; crashes are written beside it.
        target: Function of bytes.
        seeds: List of bytes to begin with.
        dictionary: Name of a file of tokens, beside this one. Defaults to `None`.
    """
    arguments = sys.argv[1:]
    given = {argument.split("=")[0].lstrip("-") for argument in arguments}
    files = [argument for argument in arguments if not argument.startswith("-")]
    if not files:
        corpus = pathlib.Path(tempfile.gettempdir(), f"fuzz-{name}")
        corpus.mkdir(exist_ok=True)
        for number, seed in enumerate(seeds):
            (corpus / f"seed-{number:03d}").write_bytes(seed)
        arguments.append(str(corpus))
        arguments.append(f"-artifact_prefix={corpus}-")
    if dictionary:
        arguments.append(f"-dict={HERE / dictionary}")
    arguments += [f"-{key}={value}" for key, value in OPTIONS.items() if key not in given]
    atheris.Setup([sys.argv[0], *arguments], target)
    atheris.Fuzz()
