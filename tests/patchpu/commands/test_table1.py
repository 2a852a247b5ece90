"""The command `patchpu table1`: options, exit codes, and what its dry run says."""

import pathlib
import subprocess
import sys

import pytest

from patchpu.__main__ import main
from patchpu.grids import table1
from patchpu.grids.dry_run import dry_run
from patchpu.grids.grid import read_grid

ROOT = pathlib.Path(__file__).parents[3]
TEXT = """
settings: {epochs: 2, num_train: 100, num_validation: 40, batch_size: 16}
runs: [{name: patch-wn, loss: wn}, {name: patch-an, loss: an}, {name: long, loss: an, epochs: 4}]
seeds: [0, 1]
"""


@pytest.fixture
def grid_file(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def called(monkeypatch, tmp_path):
    """The arguments that the command hands over; nothing is run, `failures` can be set."""
    calls = []

    def run_grid(grid, output, *arguments):
        output.mkdir(parents=True, exist_ok=True)
        (output / "table.md").write_text("THE TABLE\n")
        calls.append((grid, output, *arguments))
        return run_grid.failures

    run_grid.failures = []
    run_grid.calls = calls
    monkeypatch.setattr(table1, "run_grid", run_grid)
    monkeypatch.chdir(tmp_path)
    return run_grid


def test_options_reach_the_grid(grid_file, called, capsys):
    main(
        ["table1", "--config", str(grid_file), "--output", "out", "--seeds", "3,4"]
        + ["--rows", "long,patch-wn", "--jobs", "2", "--backend", "jax"]
    )
    ((grid, output, rows, seeds, jobs, backend),) = called.calls
    assert list(grid.rows) == ["patch-wn", "patch-an", "long"]
    assert (output, rows, seeds) == (pathlib.Path("out"), ["long", "patch-wn"], [3, 4])
    assert (jobs, backend) == (2, "jax")
    assert "THE TABLE" in capsys.readouterr().out


def test_one_seed_and_the_default_folder(grid_file, called, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    # The default is read when the command is imported.
    monkeypatch.delitem(sys.modules, "patchpu.commands.table1", raising=False)
    main(["table1", "--config", str(grid_file), "--seeds", "7"])
    ((_, output, rows, seeds, jobs, backend),) = called.calls
    assert (output, rows, seeds) == (pathlib.Path("runs/small"), None, [7])
    assert (jobs, backend) == (1, "torch")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--config", "small.yaml", "--dataset", "voc"], "--dataset digits"),
        (["--config", "small.yaml", "--rows", "fly"], "fly"),
        (["--config", "small.yaml", "--seeds", "a"], "--seeds as 0,1,2"),
        (["--config", "small.yaml", "--jobs", "0"], "jobs"),
        (["--config", "small.yaml", "--backend", "mxnet"], "backend"),
    ],
)
def test_what_a_user_can_mend_ends_with_code_2_and_leaves_nothing(
    arguments, message, grid_file, monkeypatch, capsys
):
    monkeypatch.chdir(grid_file.parent)
    with pytest.raises(SystemExit) as exit_:
        main(["table1", *arguments])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err
    assert list(grid_file.parent.iterdir()) == [grid_file]


def test_failures_end_with_code_1(grid_file, called, capsys):
    called.failures = ["long seed 0 ended with code 3; x.log ends with\nValueError: why"]
    with pytest.raises(SystemExit) as exit_:
        main(["table1", "--config", str(grid_file)])
    assert exit_.value.code == 1
    errors = capsys.readouterr().err
    assert "1 runs failed" in errors and "    ValueError: why" in errors


def test_dry_run_by_hand(grid_file, tmp_path):
    measured = []

    def measure(config):
        measured.append(config.loss)
        seconds = {"wn": 36.0, "an": 18.0}[config.loss]
        return {
            "step_seconds": seconds,
            "prediction_seconds": 0.0,
            "parameters": 1234,
            "model_bytes": 5_000_000,
            "map_size": None,
        }

    text = dry_run(read_grid(grid_file), tmp_path / "out", jobs=4, measure=measure)
    assert measured == ["wn", "an"]  # `long` has the steps of `patch-an`
    lines = [line.split("  ") for line in text.splitlines()]
    cells = [[cell.strip() for cell in line if cell] for line in lines]
    # 7 steps an epoch: 2 epochs of 36 s, 2 of 18 s, 4 of 18 s; 2 seeds; 2 files of 5 MB.
    assert ["patch-wn", "0, 1", "2", "1,234", "36000.0", "0.28", "0.020"] in cells
    assert ["patch-an", "0, 1", "2", "1,234", "18000.0", "0.14", "0.020"] in cells
    assert ["long", "0, 1", "4", "1,234", "18000.0", "0.28", "0.020"] in cells
    assert text.startswith("digits: 6 runs")
    assert "together 0.2 hours with 4 at a time" in text  # 0.7 / 4
    assert "0.06 GB of" in text
    assert not (tmp_path / "out").exists()


def test_dry_run_tells_what_it_cannot_time(grid_file, tmp_path):
    text = dry_run(
        read_grid(grid_file), tmp_path, rows=["long"], measure=lambda config: "not timed: no memory"
    )
    assert "long: not timed: no memory" in text and "together 0.0 hours" in text


@pytest.mark.slow
def test_dry_run_of_the_command(grid_file, tmp_path):
    command = [sys.executable, "-m", "patchpu", "table1", "--config", str(grid_file)]
    command += ["--output", str(tmp_path / "out"), "--dry-run", "--rows", "patch-an"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "215,842" in process.stdout and "not timed" not in process.stdout
    assert list(tmp_path.iterdir()) == [grid_file]
