"""The lines that tell how far a grid is."""

import sys

import pytest
from keras_patchpu.experiments import grid_progress
from small_grids import grid_of

from patchpu.grids.progress import GridProgress


@pytest.fixture
def clock(monkeypatch):
    """A list of one number: the seconds that the clock shows."""
    seconds = [1000.0]
    monkeypatch.setattr(grid_progress.time, "monotonic", lambda: seconds[0])
    return seconds


def test_what_is_left_by_the_means_of_the_rows(tmp_path, clock, capsys):
    runs = grid_of(tmp_path).runs()  # wn 0, an 0, wn 1, an 1
    progress = GridProgress(runs, [], jobs=2)
    clock[0] += 90 * 60
    progress.finished(runs[0], 0.5, 60 * 60)
    # wn takes 60 minutes, and an, not known, as much: 3 * 60 / 2 = 90.
    progress.finished(runs[1], None, 20 * 60)
    # an 20: 60 + 20 = 80 minutes, two at a time.
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith(
        "1/4 patch-wn seed 0: 60.0 min, val mAP 0.500; 1:30 elapsed, about 1:30 left"
    )
    assert lines[2].endswith(
        "2/4 patch-an seed 0: 20.0 min, no val mAP; 1:30 elapsed, about 0:40 left"
    )


def test_numbers_stand_below_each_other(tmp_path, capsys):
    runs = grid_of(tmp_path).runs()
    GridProgress(runs * 3, runs, jobs=1)
    assert capsys.readouterr().out == "[######..............]  4/12 runs done already\n"


def test_a_log_file_gets_no_line_that_is_overwritten(tmp_path, capsys):
    runs = grid_of(tmp_path).runs()
    progress = GridProgress(runs, [], jobs=1)
    capsys.readouterr()
    progress.live([(runs[0], tmp_path)])
    assert capsys.readouterr().out == ""


def test_a_terminal_shows_what_is_at_work(tmp_path, capsys, monkeypatch):
    runs = grid_of(tmp_path).runs()
    progress = GridProgress(runs, runs[:1], jobs=2)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "81")
    (tmp_path / "metrics.csv").write_text("epoch,loss\n1,0.5\n2,0.25\n")
    capsys.readouterr()
    for _ in range(2):  # printed once
        progress.live([(runs[1], tmp_path), (runs[2], tmp_path / "not begun")])
    shown = capsys.readouterr().out
    assert shown == (
        "\r\033[K[#####...............] 1/4  patch-an seed 0, epoch 2/3; patch-wn seed 1, epoch 0"
    )
    progress.finished(runs[1], 0.5, 60)
    assert capsys.readouterr().out.startswith("\r\033[K[##########..........] 2/4 patch-an seed 0:")
