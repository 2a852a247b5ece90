"""Running grids: what is started, what is not, what stops it and how it goes on."""

import dataclasses
import fcntl
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import yaml
from small_grids import TWO_ROWS, grid_of, ledger_of_two_runs, rows_of, write_run
from tiny_data import write_voc

from patchpu.grids import run_grid as run_grid_module
from patchpu.grids.run_grid import child_environment, run_grid, start_process
from patchpu.training.config import TrainConfig

pytestmark = pytest.mark.no_backend

ROOT = pathlib.Path(__file__).parents[3]
SETTINGS = {field.name for field in dataclasses.fields(TrainConfig)}


class Runner:
    """Stands in for `start_process`: writes what a run would, without one.

    Names in `fail` end with code 3. Names in `hang` never end by themselves.
    """

    def __init__(self, fail=(), hang=()):
        self.fail, self.hang = fail, hang
        self.started, self.alive, self.most_alive, self.environments = [], set(), 0, []

    def __call__(self, command, environment, log, lock):
        assert command[1:4] == ["-m", "patchpu", "train"]
        folder = pathlib.Path(command[command.index("--output") + 1])
        self.started.append((folder.name, "--resume" in command))
        self.environments.append(environment)
        log.write_text("first line\nValueError: the reason\n")
        settings = yaml.safe_load(pathlib.Path(command[command.index("--config") + 1]).read_text())
        config = TrainConfig(**settings)
        code = None
        if folder.name in self.fail:
            code = 3
        elif folder.name not in self.hang:
            write_run(folder, config, 0.5 + config.seed / 10)
            code = 0
        self.alive.add(folder.name)
        self.most_alive = max(self.most_alive, len(self.alive))
        return FakeProcess(self, folder.name, code)


class FakeProcess:
    """Ends at the second look, so that jobs overlap."""

    def __init__(self, runner, name, code):
        self.runner, self.name, self.code, self.looks = runner, name, code, 0

    def poll(self):
        self.looks += 1
        if self.looks < 2 or self.code is None:
            return None
        self.runner.alive.discard(self.name)
        return self.code

    def terminate(self):
        self.runner.alive.discard(self.name)
        self.code = -15

    def wait(self, timeout=None):
        return self.code


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(run_grid_module, "_SECONDS_BETWEEN_LOOKS", 0)


def test_runs_all_once_and_never_again(tmp_path, capsys):
    grid, runner = grid_of(tmp_path), Runner()
    assert run_grid(grid, tmp_path / "out", start=runner) == []
    assert runner.started == [
        ("patch-wn-seed0", False),
        ("patch-an-seed0", False),
        ("patch-wn-seed1", False),
        ("patch-an-seed1", False),
    ]
    assert runner.most_alive == 1
    assert len(rows_of(tmp_path / "out" / "ledger.csv")) == 4
    assert "| `patch-wn` | 0, 1 | 55.0 ± 7.1 |" in (tmp_path / "out" / "table.md").read_text()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(";")[0] for line in lines] == [
        "[....................] 0/4 runs done already",
        "[#####...............] 1/4 patch-wn seed 0: 0.0 min, val mAP 0.500",
        "[##########..........] 2/4 patch-an seed 0: 0.0 min, val mAP 0.500",
        "[###############.....] 3/4 patch-wn seed 1: 0.0 min, val mAP 0.600",
        "[####################] 4/4 patch-an seed 1: 0.0 min, val mAP 0.600",
    ]

    again = Runner()
    assert run_grid(grid, tmp_path / "out", start=again) == []
    assert again.started == []


def test_a_part_of_the_grid_leaves_the_rest_in_the_ledger(tmp_path):
    grid = grid_of(tmp_path)
    run_grid(grid, tmp_path / "out", rows=["patch-an"], seeds=[1], start=Runner())
    run_grid(grid, tmp_path / "out", rows=["patch-wn"], seeds=[5], start=Runner())
    rows = rows_of(tmp_path / "out" / "ledger.csv")
    assert [(row["name"], row["seed"]) for row in rows] == [("patch-wn", "5"), ("patch-an", "1")]


def test_what_was_begun_goes_on(tmp_path):
    grid = grid_of(tmp_path)
    begun = grid.run("patch-an", 0)
    write_run(tmp_path / "out" / begun.folder_name, begun.config, 0.5)
    (tmp_path / "out" / begun.folder_name / "report.json").unlink()
    runner = Runner(fail=["patch-an-seed0"])
    run_grid(grid, tmp_path / "out", rows=["patch-an"], start=runner)
    assert runner.started == [("patch-an-seed0", True), ("patch-an-seed1", False)]


def test_settings_of_a_run_are_written_whole(tmp_path):
    grid = grid_of(tmp_path)
    run_grid(grid, tmp_path / "out", start=Runner())
    settings = yaml.safe_load((tmp_path / "out" / "logs" / "patch-an-seed1.yaml").read_text())
    assert settings["xla"] == "never" and settings["seed"] == 1
    assert set(settings) == SETTINGS - {"output", "resume"}


def test_jobs_run_at_a_time_and_share_the_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(run_grid_module, "num_cores", lambda: 6)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    runner = Runner()
    run_grid(grid_of(tmp_path), tmp_path / "out", jobs=3, backend="tensorflow", start=runner)
    assert len(runner.started) == 4 and runner.most_alive == 3
    for environment in runner.environments:
        assert environment["TF_NUM_INTRAOP_THREADS"] == "2"
        assert environment["OMP_NUM_THREADS"] == "5"  # the user's choice stays
        assert environment["KERAS_BACKEND"] == "tensorflow"
    assert "TF_NUM_INTRAOP_THREADS" not in child_environment(1, "jax")
    assert child_environment(1, "jax")["KERAS_BACKEND"] == "jax"


def test_a_failed_run_is_told_and_does_not_stop_the_others(tmp_path, capsys):
    runner = Runner(fail=["patch-wn-seed0"])
    (failure,) = run_grid(grid_of(tmp_path), tmp_path / "out", start=runner)
    assert failure.startswith("patch-wn seed 0 ended with code 3")
    assert failure.endswith("ValueError: the reason")
    assert len(runner.started) == 4
    assert len(rows_of(tmp_path / "out" / "ledger.csv")) == 3
    assert "1/4 patch-wn seed 0: FAILED" in capsys.readouterr().out


def test_other_settings_are_refused_before_anything_is_started(tmp_path):
    grid, runner = grid_of(tmp_path), Runner()
    config = dataclasses.replace(grid.run("patch-an", 1).config, batch_size=4)
    write_run(tmp_path / "out" / "patch-an-seed1", config, 0.5)
    with pytest.raises(ValueError, match="patch-an-seed1 .batch_size: 4 in the folder, 16 now"):
        run_grid(grid, tmp_path / "out", start=runner)
    with pytest.raises(ValueError, match="patch-an-seed1"):  # also if it is only begun
        (tmp_path / "out" / "patch-an-seed1" / "report.json").unlink()
        run_grid(grid, tmp_path / "out", start=runner)
    assert runner.started == []


def test_what_the_ledger_has_is_done_without_its_folder(tmp_path, capsys):
    grid, output = ledger_of_two_runs(tmp_path)
    runner = Runner()
    assert run_grid(grid, output, start=runner) == []
    assert runner.started == [("patch-wn-seed0", False), ("patch-an-seed1", False)]
    assert "[##########..........] 2/4 runs done already" in capsys.readouterr().out
    rows = rows_of(output / "ledger.csv")
    assert [row["val_mAP"] for row in rows] == ["0.5", "0.75", "0.5", "0.6"]
    assert "Not done" not in (output / "table.md").read_text()


def test_a_line_of_other_settings_or_backend_is_refused_and_stays(tmp_path):
    grid, output = ledger_of_two_runs(tmp_path)
    other = grid_of(tmp_path, TWO_ROWS.replace("xla: never", "batch_size: 4"))
    before = (output / "ledger.csv").read_bytes()
    runner = Runner()
    with pytest.raises(ValueError, match="patch-wn-seed1 .batch_size: 16 in the ledger, 4 now"):
        run_grid(other, output, start=runner)
    with pytest.raises(ValueError, match="backend: 'tensorflow' in the ledger, 'torch' now"):
        run_grid(grid, output, backend="torch", start=runner)
    assert runner.started == []
    assert (output / "ledger.csv").read_bytes() == before
    # A part of the other grid that the ledger does not speak of.
    assert run_grid(other, output, rows=["patch-an"], seeds=[1], start=runner) == []
    assert runner.started == [("patch-an-seed1", False)]
    assert len(rows_of(output / "ledger.csv")) == 3


def test_another_backend_is_refused(tmp_path):
    grid = grid_of(tmp_path)
    run_grid(grid, tmp_path / "out", start=Runner())
    with pytest.raises(ValueError, match="backend: 'tensorflow' in the folder, 'jax' now"):
        run_grid(grid, tmp_path / "out", backend="jax", start=Runner())


def test_two_grids_in_one_folder_are_refused(tmp_path):
    grid = grid_of(tmp_path)
    (tmp_path / "out").mkdir()
    with open(tmp_path / "out" / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="Another process works in"):
            run_grid(grid, tmp_path / "out", start=Runner())
    run_grid(grid, tmp_path / "out", start=Runner())


def test_a_process_writes_its_log_behind_what_is_there_and_holds_the_lock(tmp_path):
    log = tmp_path / "run.log"
    log.write_text("before\n")
    code = "import os, sys; print(os.fstat(int(sys.argv[1])).st_ino, flush=True); "
    code += "sys.exit(os.environ['WHY'])"
    with open(tmp_path / "lock", "w") as lock:
        command = [sys.executable, "-c", code, str(lock.fileno())]
        process = start_process(command, {"WHY": "the reason"}, log, lock.fileno())
        assert process.wait() == 1
    number = os.stat(tmp_path / "lock").st_ino
    assert log.read_text() == f"before\n$ {' '.join(command)}\n{number}\nthe reason\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_all_runs_and_the_same_call_goes_on(number, code, tmp_path):
    class Stopping(Runner):
        def __call__(self, *arguments):
            process = super().__call__(*arguments)
            if len(self.started) == 2:
                os.kill(os.getpid(), number)
            return process

    grid, runner = grid_of(tmp_path), Stopping(hang=["patch-wn-seed0", "patch-an-seed0"])
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as exit_:
        run_grid(grid, tmp_path / "out", jobs=2, start=runner)
    assert exit_.value.code == code
    assert len(runner.started) == 2 and not runner.alive
    assert signal.getsignal(number) == before
    again = Runner()
    assert run_grid(grid, tmp_path / "out", start=again) == []
    assert len(again.started) == 4


TINY = {
    "batch_size": 8,
    "image_size": 32,
    "num_downsamples": 1,
    "features": 8,
    "hidden_units": 8,
    "resnet_width": 0.125,
    "xla": "never",
}


@pytest.mark.slow
def test_a_grid_on_a_folder_of_voc(tmp_path):
    settings = {**TINY, "patch_size": 16, "epochs": 1, "check_counts": False}
    rows = [
        {"name": "patch-wn", "loss": "wn"},
        {"name": "resnet-en_scl", "model": "resnet", "loss": "en_scl", "augment": True},
    ]
    path = tmp_path / "tiny.yaml"
    grid = {"dataset": "voc", "settings": settings, "runs": rows, "seeds": [0]}
    path.write_text(yaml.safe_dump(grid))
    command = [sys.executable, "-m", "patchpu", "table1", "--config", str(path)]
    command += ["--dataset", "voc", "--data-dir", str(write_voc(tmp_path / "data"))]
    command += ["--output", str(tmp_path / "out"), "--backend", "tensorflow"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    lines = rows_of(tmp_path / "out" / "ledger.csv")
    assert [line["name"] for line in lines] == ["patch-wn", "resnet-en_scl"]
    for line in lines:
        assert 0 < float(line["val_mAP"]) <= 1 and line["dataset"] == "voc"
    assert "| `patch-wn` | 0 |" in process.stdout and "| 60.4 | 63.2 |" in process.stdout


def kill(process):
    """SIGKILL, which nothing can catch, to a process and to those that it started."""
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    for number in [process.pid, *map(int, children.split())]:
        os.kill(number, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_a_killed_grid_goes_on_and_ends_as_one_never_killed(tmp_path):
    settings = {**TINY, "epochs": 3, "num_train": 32, "num_validation": 20}
    runs = [
        {"name": "wn", "loss": "wn"},
        {"name": "role", "loss": "role"},
        {"name": "en_scl", "loss": "en_scl", "model": "resnet", "augment": True},
    ]
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"settings": settings, "runs": runs, "seeds": [0]}))

    def command(output):
        options = ["table1", "--config", str(path), "--output", str(tmp_path / output)]
        options += ["--backend", "tensorflow"]
        return [sys.executable, "-m", "patchpu", *options]

    whole = subprocess.run(command("whole"), capture_output=True, text=True, check=False)
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.splitlines()[3].startswith("[####################] 3/3 en_scl seed 0: ")

    for row in runs:  # each of them is killed in its second epoch
        folder = tmp_path / "killed" / f"{row['name']}-seed0"
        process = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL)
        while not (folder / "last" / "progress.json").exists() and process.poll() is None:
            time.sleep(0.01)
        kill(process)
        assert not (folder / "report.json").exists()
    again = subprocess.run(command("killed"), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    for row in runs:
        log = (tmp_path / "killed" / "logs" / f"{row['name']}-seed0.log").read_text()
        assert log.count("$ ") == 2 and log.count("--resume") == 1

    first, second = (rows_of(tmp_path / output / "ledger.csv") for output in ("whole", "killed"))
    for one, other in zip(first, second, strict=True):
        for column in ("minutes", "commit", "uncommitted_changes"):  # somebody may work here
            del one[column], other[column]
        assert {**one, "command": ""} == {**other, "command": ""}
        assert one["command"].replace("whole", "killed") == other["command"]
    curves = [(tmp_path / output / "curves.csv").read_bytes() for output in ("whole", "killed")]
    assert curves[0] == curves[1]
