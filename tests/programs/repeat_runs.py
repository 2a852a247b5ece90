"""Two deterministic runs, and one that stops after half of its epochs and goes on: equal bits?

    PYTHONPATH=.:tests/helpers python tests/programs/repeat_runs.py FOLDER LOSS [--short | --xla]

The third also writes for TensorBoard, where that is installed, which must change nothing.

Prints a JSON object: in what the second and the third differ from the first, and how many of
the epochs the third had done when it was stopped. A process of its own, since what makes
operations deterministic cannot be undone.
"""

import dataclasses
import importlib.util
import json
import pathlib
import shutil
import signal
import sys

from kill_runs import compare, config_of, short_runs
from tiny_runs import one_block

from patchpu.training.run import prepare, run, train
from patchpu.training.run_folder import RunFolder


class Stopping(list):
    """Asks for the end once a run has done so many epochs."""

    def __init__(self, folder, epochs):
        super().__init__([signal.SIGTERM])
        self.folder, self.epochs = folder, epochs

    def __bool__(self):
        path = self.folder / "metrics.csv"
        return path.exists() and len(path.read_text().splitlines()) > self.epochs


def main(folder, loss, epochs=4, **changes):
    folder = pathlib.Path(folder)
    changes |= {"epochs": epochs, "checkpoint_minutes": 60.0}
    configs = {
        name: config_of(folder / name, loss, **changes) for name in ("first", "second", "third")
    }
    train(configs["first"], verbose=0)
    train(configs["second"], verbose=0)
    logs = importlib.util.find_spec("tensorboard") is not None
    stopped = dataclasses.replace(configs["third"], tensorboard=logs)
    try:
        run(stopped, *prepare(stopped), verbose=0, stopping=Stopping(folder / "third", epochs // 2))
    except SystemExit:
        pass
    found = {"done": RunFolder(folder / "third").progress().epochs}
    train(dataclasses.replace(stopped, resume=True), verbose=0)
    if logs:
        shutil.rmtree(folder / "third" / "tensorboard")  # must be there
    for name in ("second", "third"):
        compare(folder / "first", folder / name, folder / "wrong.json")
        found[name] = json.loads((folder / "wrong.json").read_text())
    print(json.dumps(found))


if __name__ == "__main__":
    arguments, options = sys.argv[1:3], sys.argv[3:]
    if options == ["--short"]:
        with short_runs():
            main(*arguments, epochs=2)
    elif options == ["--xla"]:
        main(*arguments, xla="always")
    else:
        one_block()
        main(*arguments)
