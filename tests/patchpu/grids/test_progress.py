"""The lines that tell how far a grid is."""

import sys

import pytest
from small_grids import grid_of

from patchpu.grids.progress import GridProgress

pytestmark = pytest.mark.no_backend


class Clock:
    """Shows the seconds that it is set to."""

    seconds = 1000.0

    def __call__(self):
        return self.seconds


def test_what_is_left_by_the_mean_time_between_ends(tmp_path, capsys):
    clock, runs = Clock(), grid_of(tmp_path).runs()
    progress = GridProgress(runs, runs[:1], clock)
    clock.seconds += 90 * 60
    progress.finished(runs[1], 0.5, 60 * 60)
    clock.seconds += 30 * 60
    progress.finished(runs[2], None, 20 * 60)
    progress.failed(runs[3])
    # Two more at one end in 90 minutes; one more at one end in 60.
    assert capsys.readouterr().out.splitlines() == [
        "[#####...............] 1/4 runs done already",
        "[##########..........] 2/4 patch-an seed 0: 60.0 min, val mAP 0.500; "
        "1:30:00 elapsed, about 3:00:00 left",
        "[###############.....] 3/4 patch-wn seed 1: 20.0 min, no val mAP; "
        "2:00:00 elapsed, about 1:00:00 left",
        "[####################] 4/4 patch-an seed 1: FAILED; 2:00:00 elapsed",
    ]


def test_a_log_file_gets_no_line_that_is_overwritten(tmp_path, capsys):
    runs = grid_of(tmp_path).runs()
    progress = GridProgress(runs, [])
    capsys.readouterr()
    progress.live([(runs[0], tmp_path)])
    progress.close()
    assert capsys.readouterr().out == ""


def test_a_terminal_shows_what_is_at_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    runs = grid_of(tmp_path).runs()
    progress = GridProgress(runs, runs[:1])
    (tmp_path / "metrics.csv").write_text("epoch,loss\n1,0.5\n2,0.25\n")
    progress.live([(runs[1], tmp_path), (runs[2], tmp_path / "not begun")])
    shown = capsys.readouterr().out.split("\r")[-1].rstrip()
    assert shown == (
        "[#####...............] 1/4  patch-an seed 0, epoch 2/3; patch-wn seed 1, epoch 0/2"
    )
    progress.finished(runs[1], 0.5, 60)
    lines = capsys.readouterr().out.splitlines()
    assert any("[##########..........] 2/4 patch-an seed 0: 1.0 min" in line for line in lines)
    progress.close()
    assert not capsys.readouterr().out.split("\r")[-1].strip()
