"""Reads `metrics.csv` of a run that goes on, which something may have damaged."""

import csv
import math
import pathlib

from keras_patchpu.utils.validation import FileError

_SHOWN = 80


def read_metrics(path, epochs, columns=("epoch",)):
    """The lines of the first epochs of a run.

    Args:
        path: Path of `metrics.csv`: a head, and a line for each epoch.
        epochs: Number of epochs. What stands behind them is not looked at: an epoch that was
            not saved is done, and written, again.
        columns: Names that the head must have. Defaults to that of the epoch alone.

    Returns:
        List of dicts of numbers; NaN for an empty cell.

    Raises:
        FileError: A line is missing, cut off or damaged; the message has its number.
    """
    if not epochs:
        return []
    path = pathlib.Path(path)
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    lines += [b""] * (epochs + 1 - len(lines))
    names, rows = None, []
    for number, line in enumerate(lines[: epochs + 1], start=1):
        try:
            if names is None:
                names = _head(line, columns)
            else:
                rows.append(_row(line, names, number - 1))
        except (ValueError, csv.Error) as error:
            received = line.decode("utf-8", "replace").rstrip("\r\n")[:_SHOWN]
            raise FileError(
                f"{path}, line {number}, is damaged: {error}. Received: {received!r}. Put back a "
                f"copy of the file, or write the {epochs} lines that it must have below its head "
                "again, with empty cells for what is not known (as `2,,,` for epoch 2). The "
                "models in the folder are whole"
            ) from error
    return rows


def score_of(row, name):
    """The value by which epochs are compared; minus infinity where it is not known."""
    score = row.get(name, math.nan)
    return -math.inf if math.isnan(score) else score


def _head(line, columns):
    names = _cells(line)
    missing = [name for name in columns if name not in names]
    if missing or len(set(names)) < len(names):
        raise ValueError(f"expected different names of columns, {', '.join(columns)} among them")
    return names


def _row(line, names, epoch):
    cells = _cells(line)
    if len(cells) != len(names):
        raise ValueError(f"expected {len(names)} cells, as the head has. It has {len(cells)}")
    row = {name: float(cell or "nan") for name, cell in zip(names, cells)}
    if row["epoch"] != epoch:
        raise ValueError(f"expected epoch {epoch} in the column epoch")
    return row


def _cells(line):
    if not line:
        raise ValueError("the file ends before it")
    if not line.endswith((b"\n", b"\r")):
        raise ValueError("it is cut off, without a line end")
    return next(csv.reader([line.decode()], strict=True), [])
