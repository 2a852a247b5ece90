"""How far a grid is. Imports no framework."""

import shutil
import statistics
import sys
import time

_WIDTH = 20  # characters of the bar


class GridProgress:
    """A bar that grows by a line with each run that ends, so that a log file has it, too.

    On a terminal the runs at work and their epochs stand below, in a line that is overwritten.

    Args:
        runs: List of `GridRun`.
        done: Those that are done already.
        jobs: Runs at a time.
    """

    def __init__(self, runs, done, jobs):
        self.total = len(runs)
        self.count = len(done)
        self.jobs = jobs
        self.waiting = [run.name for run in runs if run not in done]
        self.minutes = {}  # by row, of this call
        self.began = time.monotonic()
        self.shown = ""
        print(f"{self._bar()} runs done already", flush=True)

    def finished(self, run, val_mAP, seconds):
        """A run came to its end after so many seconds."""
        self.minutes.setdefault(run.name, []).append(seconds / 60)
        result = "no val mAP" if val_mAP is None else f"val mAP {val_mAP:.3f}"
        self._line(run, f"{seconds / 60:.1f} min, {result}")

    def failed(self, run):
        """A run ended before its last epoch."""
        self._line(run, "FAILED")

    def live(self, running):
        """Shows on a terminal what is at work.

        Args:
            running: List of pairs of `GridRun` and its folder; with none the line is cleared.
        """
        if not sys.stdout.isatty():
            return
        parts = [
            f"{run.name} seed {run.seed}, epoch {_epochs_done(folder)}/{run.config.epochs}"
            for run, folder in running
        ]
        text = f"{self._bar()}  {'; '.join(parts)}" if parts else ""
        text = text[: shutil.get_terminal_size().columns - 1]  # a second line would stay
        if text != self.shown:
            self.shown = text
            print(f"\r\033[K{text}", end="", flush=True)

    def _line(self, run, text):
        self.live([])
        self.count += 1
        self.waiting.remove(run.name)
        elapsed = (time.monotonic() - self.began) / 60
        left = ""
        if self.waiting and self.minutes:
            # A row not run yet is taken to last as long as the mean of the others.
            mean = {name: statistics.mean(values) for name, values in self.minutes.items()}
            other = statistics.mean(mean.values())
            minutes = sum(mean.get(name, other) for name in self.waiting) / self.jobs
            left = f", about {_hours(minutes)} left"
        head = f"{self._bar()} {run.name} seed {run.seed}"
        print(f"{head}: {text}; {_hours(elapsed)} elapsed{left}", flush=True)

    def _bar(self):
        filled = _WIDTH * self.count // self.total
        number = str(self.count).rjust(len(str(self.total)))
        return f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {number}/{self.total}"


def _epochs_done(folder):
    """Lines of `metrics.csv` below its head."""
    path = folder / "metrics.csv"
    return max(path.read_bytes().count(b"\n") - 1, 0) if path.exists() else 0


def _hours(minutes):
    """`1:05`, hours and minutes."""
    return f"{int(minutes) // 60}:{int(minutes) % 60:02d}"
