"""How far a grid is."""

import sys
import time

from tqdm import tqdm

_BAR = "[{bar:20}] {n_fmt}/{total_fmt}"


class GridProgress:
    """A line for each run that ends, so that a log file has it, too.

    On a terminal the runs at work and their epochs stand below, in a line that is overwritten.

    Args:
        runs: List of `GridRun`.
        done: Those that are done already.
        clock: Function that gives seconds. Defaults to `time.monotonic`.
    """

    def __init__(self, runs, done, clock=time.monotonic):
        self._clock = clock
        self._began = clock()
        self._done = self._done_before = len(done)
        self._total = len(runs)
        self._live = tqdm(
            total=self._total,
            initial=self._done,
            file=sys.stdout,
            ascii=".#",
            bar_format=_BAR + "  {desc}",
            dynamic_ncols=True,
            leave=False,
            disable=None,  # where the output is no terminal
        )
        self._print(self._meter(_BAR) + " runs done already")

    def finished(self, run, val_mAP, seconds):
        """A run came to its end after so many seconds."""
        result = "no val mAP" if val_mAP is None else f"val mAP {val_mAP:.3f}"
        self._ended(run, f"{seconds / 60:.1f} min, {result}")

    def failed(self, run):
        """A run ended before its last epoch."""
        self._ended(run, "FAILED")

    def live(self, running):
        """Shows on a terminal what is at work.

        Args:
            running: List of pairs of `GridRun` and its folder.
        """
        parts = [
            f"{run.name} seed {run.seed}, epoch {_epochs_done(folder)}/{run.config.epochs}"
            for run, folder in running
        ]
        self._live.set_description_str("; ".join(parts))

    def close(self):
        """Clears what is overwritten."""
        self._live.close()

    def _ended(self, run, text):
        self._done += 1
        self._live.update()
        times = "{elapsed} elapsed"
        if self._done < self._total:
            times += ", about {remaining} left"
        self._print(self._meter(f"{_BAR} {{desc}}; {times}", f"{run.name} seed {run.seed}: {text}"))

    def _meter(self, form, text=""):
        return tqdm.format_meter(
            self._done,
            self._total,
            self._clock() - self._began,
            initial=self._done_before,
            prefix=text,
            ascii=".#",
            bar_format=form,
        )

    def _print(self, line):
        self._live.write(line, file=sys.stdout)
        sys.stdout.flush()


def _epochs_done(folder):
    """Lines of `metrics.csv` below its head."""
    path = folder / "metrics.csv"
    return max(path.read_bytes().count(b"\n") - 1, 0) if path.exists() else 0
