"""Fuzzes the readers of a training's config file and of a grid.

    python fuzz/fuzz_config.py -max_total_time=1200

A config may end the process with code 2 and a message, or raise what the command turns into that:
a ValueError or OSError with a message. A grid may raise a ValueError with a message. The first
byte chooses: even a config, odd a grid.
"""

import contextlib
import io
import os

from common import fuzz, instrumented, message_of, work_folder

with instrumented("yaml"):
    import yaml

    from patchpu.commands.train import parse_train_config
    from patchpu.grids.grid import read_grid
    from patchpu.training.config import TrainConfig

WORK = work_folder("config")


def target(data):
    if not data:
        return
    path = WORK / "file.yaml"
    path.write_bytes(data[1:])
    if data[0] % 2:
        read_a_grid(path)
    else:
        read_a_config(path)


def read_a_config(path):
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            config = parse_train_config(["--config", str(path)])
    except SystemExit as end:
        if end.code != 2 or "error" not in messages.getvalue():
            raise RuntimeError(f"exit {end.code}: {messages.getvalue()!r}") from end
        return
    except (ValueError, OSError) as error:
        message_of(error)
        return
    check(config)


def read_a_grid(path):
    try:
        grid = read_grid(path)
    except ValueError as error:
        message_of(error)
        return
    runs = grid.runs()
    if len({run.folder_name for run in runs}) < len(runs) or not runs:
        raise RuntimeError(f"folders are not different: {[run.folder_name for run in runs]}")
    for run in runs:
        check(run.config)


def check(config):
    """A run that was started with these settings can be resumed with them."""
    if not isinstance(config, TrainConfig):
        raise RuntimeError(f"{config!r}")
    # As text: NaN, which a loss refuses among its arguments, is no NaN's equal.
    if repr(yaml.safe_load(config.to_yaml())) != repr(config.settings()):
        raise RuntimeError(f"written and read again they differ: {config.settings()}")


SEEDS = [
    b"\0",
    b"\0dataset: digits\nloss: wn\nepochs: 2\nxla: never\n",
    b"\0loss: role\nmodel: resnet\nresnet_width: 0.25\nlearning_rate: 1e-3\nseed: 3\n",
    b"\0loss_arguments: {theta: 0.5, stop_gradient: false}\nstrides: null\n",
    b"\0table: tags.csv\nimage_fit: pad\nvalidation_share: 0.2\naugment: true\n",
    b"\0resume: true\noutput: nowhere\n",
    b"\0config: file.yaml\n",
    b"\0&a [*a, !!python/name:os.system x]\n",
    b'\0{"epochs": 3, "batch_size": 8, "max_patches_per_level": 4}',
    b"\x01runs:\n- {name: a, loss: wn}\n- {name: b, loss: an, negative_weight: 0.1}\nseeds: [1]\n",
    b"\x01dataset: digits\nsettings: {epochs: 2}\ngrid:\n  theta: [0.0, 0.25]\n  loss: [wn]\n",
    b"\x01runs: [{name: a}]\ngrid: {xla: [always, never], precision: [float32]}\nseeds: [5]\n",
    b"\x01x: &x {name: a}\nruns: [*x, {<<: *x, name: b}]\n",
]

if __name__ == "__main__":
    os.chdir(WORK)
    fuzz("config", target, SEEDS, dictionary="yaml.dict")
