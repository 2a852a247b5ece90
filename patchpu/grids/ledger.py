"""The results of many runs as data: a line a run in `ledger.csv`, a line an epoch in `curves.csv`.

Cells are kept as they are written, so what is read and written again is the same to the byte.
"""

import json
import os
import pathlib

import pandas as pd

from keras_patchpu.utils.whole_files import write_whole
from patchpu.grids.table import notes, table
from patchpu.training.run_files import differences, finished_report, read_environment

COLUMNS = (
    "name",
    "dataset",
    "model",
    "loss",
    "seed",
    "val_mAP",
    "best_val_mAP",
    "best_epoch",
    "peak_in_box",
    "attention_in_box",
    "box_ap_30",
    "box_ap_50",
    "sharpened_peak_in_box",
    "sharpened_in_box",
    "minutes",
    "parameters",
    "commit",
    "uncommitted_changes",
    "backend",
    "machine",
    "keras",
    "command",
    "settings",
)
_KEY = ["name", "seed"]
_CURVES = ("val_mAP", "loss")
_LEDGER, _TABLE, _CURVES_FILE = "ledger.csv", "table.md", "curves.csv"


def read_run(name, folder):
    """One line of the ledger.

    Args:
        name: Name of the run's row.
        folder: Run folder of a finished run.

    Returns:
        Dict of `COLUMNS`; `None` for what the run does not tell.
    """
    report, environment = finished_report(folder), read_environment(folder)
    settings, places = report["settings"], report["localization"] or {}
    box_ap, sharpened = places.get("box_ap", {}), places.get("sharpened", {})
    return {
        "name": name,
        "dataset": settings["dataset"],
        "model": settings.get("model", "patch"),
        "loss": settings["loss"],
        "seed": settings["seed"],
        "val_mAP": report["val_mAP"],
        "best_val_mAP": report["best_epoch"].get("val_mAP"),
        "best_epoch": report["best_epoch"]["epoch"],
        "peak_in_box": places.get("peak_in_box"),
        "attention_in_box": places.get("attention_in_box"),
        "box_ap_30": box_ap.get("0.3"),
        "box_ap_50": box_ap.get("0.5"),
        "sharpened_peak_in_box": sharpened.get("peak_in_box"),
        "sharpened_in_box": sharpened.get("attention_in_box"),
        "minutes": report["minutes"],
        "parameters": report["parameters"],
        "commit": environment["commit"],
        "uncommitted_changes": environment["uncommitted_changes"],
        "backend": environment["backend"],
        "machine": environment["machine"],
        "keras": environment["versions"]["keras"],
        "command": _without_path(environment["command"]),
        "settings": json.dumps(settings),
    }


def _without_path(command):
    """The command without the folder that the program lies in."""
    program, _, rest = command.partition(" ")
    program = os.path.basename(program)
    return f"{'patchpu' if program == 'patchpu.py' else program} {rest}".strip()


def finished_runs(grid, output):
    """The runs of a grid that are done, whatever seeds and rows were asked for last.

    Args:
        grid: `Grid`.
        output: Folder of its runs.

    Returns:
        List of pairs of `GridRun` and folder, by row and seed. Runs with other settings than
        the grid's are left out.
    """
    found = []
    for name in grid.rows:
        prefix = f"{name}-seed"
        seeds = [
            int(path.name.removeprefix(prefix))
            for path in pathlib.Path(output).iterdir()
            if path.name.startswith(prefix) and path.name.removeprefix(prefix).isdecimal()
        ]
        for seed in sorted(seeds):
            run = grid.run(name, seed)
            folder = pathlib.Path(output, run.folder_name)
            report = finished_report(folder)
            if report is not None and not differences(run.config, report["settings"]):
                found.append((run, folder))
    return found


def read_ledger(output):
    """The lines of `ledger.csv` in a folder, as far as there is one.

    Args:
        output: Folder of a grid's runs.

    Returns:
        `pandas.DataFrame` of strings, but `seed` is an integer and `uncommitted_changes` a
        boolean.

    Raises:
        ValueError: It is no ledger, or has two lines for one run.
    """
    path = pathlib.Path(output, _LEDGER)
    runs = _read_csv(path, COLUMNS)
    for number, line in enumerate(runs.to_dict("records"), start=2):
        if not _is_line(line):
            raise ValueError(f"{path}: row {number} is none of a ledger. Received: {line}")
    runs = runs.assign(
        seed=runs["seed"].astype(int), uncommitted_changes=runs["uncommitted_changes"] == "True"
    )
    for place in runs.index[runs.duplicated(_KEY)]:
        name, seed = runs.loc[place, _KEY]
        raise ValueError(f"{path}: row {place + 2} is a second one of {name} seed {seed}")
    return runs


def read_curves(output):
    """The lines of `curves.csv` in a folder: `pandas.DataFrame` of strings; `seed` is an integer.

    Raises:
        ValueError: It has no column of names, or a seed is no integer.
    """
    path = pathlib.Path(output, _CURVES_FILE)
    curves = _read_csv(path, (*_KEY, "epoch", *_CURVES))
    try:
        return curves.assign(name=curves["name"], seed=curves["seed"].astype(int))
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} does not hold curves of runs: {error}") from error


def lines_by_run(runs):
    """Dict from name and seed to the line of a ledger, a dict."""
    return runs.set_index(_KEY, drop=False).to_dict("index")


def line_differences(run, line):
    """How a line of a ledger differs in its settings from a `GridRun`: list of strings."""
    # Where published data lie is another place on another machine.
    saved = {**json.loads(line["settings"]), "data_dir": run.config.data_dir}
    return differences(run.config, saved, "ledger")


def write_ledger(grid, output):
    """Writes `ledger.csv`, `table.md` and `curves.csv` of what is done, each file whole.

    What the ledger said before stays: lines of runs whose folder is gone, also of rows that the
    grid does not have or has with other settings. These last stand behind the others and are not
    in the table, which says so.

    Args:
        grid: `Grid`.
        output: Folder of its runs.

    Returns:
        The lines of the table's runs: `pandas.DataFrame`.

    Raises:
        ValueError: The ledger has a line with other settings than the finished run of this name
            and seed, or is none. Nothing is written then.
    """
    found = {(run.name, run.seed): (run, folder) for run, folder in finished_runs(grid, output)}
    old = lines_by_run(read_ledger(output))
    for key, (run, folder) in found.items():
        if key in old and line_differences(run, old[key]):
            wrong = "; ".join(line_differences(run, old[key]))
            raise ValueError(
                f"{pathlib.Path(output, _LEDGER)} and {folder} have other settings ({wrong}). "
                "Take another folder for this grid, or delete the line"
            )
    new = {key: read_run(run.name, folder) for key, (run, folder) in found.items()}
    lines = {**old, **new}
    aside = {key: why for key in old if key not in new and (why := _why_aside(grid, old[key]))}
    places = {name: place for place, name in enumerate(grid.rows)}
    inside = sorted({*lines} - {*aside}, key=lambda key: (places[key[0]], key[1]))
    order = [*inside, *aside]

    curves = {key: own for key, own in read_curves(output).groupby(_KEY) if key in old}
    curves |= {key: _curves(*pair) for key, pair in found.items()}
    runs = _frame([lines[key] for key in inside], COLUMNS)
    _write_csv(pathlib.Path(output, _LEDGER), _frame([lines[key] for key in order], COLUMNS))
    write_whole(pathlib.Path(output, _TABLE), table(runs) + notes(grid, runs, aside))
    curves = pd.concat([curves[key] for key in order if key in curves] or [pd.DataFrame()])
    curves = _ordered(curves, (*_KEY, "epoch", *_CURVES))
    _write_csv(pathlib.Path(output, _CURVES_FILE), curves)
    return runs


def _is_line(line):
    try:
        int(line["seed"])
        settings = json.loads(line["settings"])
    except (KeyError, ValueError):
        return False
    return bool(line["name"] and line["backend"] and isinstance(settings, dict))


def _why_aside(grid, line):
    """Why a line of an earlier ledger is not of this grid; an empty string if it is."""
    if line["name"] not in grid.rows:
        return "no row of the grid"
    return "; ".join(line_differences(grid.run(line["name"], line["seed"]), line))


def _curves(run, folder):
    """What the lines of `metrics.csv` say, but for times."""
    metrics = _read_csv(folder / "metrics.csv", ())
    kept = [name for name in metrics if name in _CURVES or name.startswith("wn_")]
    epochs = metrics["epoch"].astype(int)
    return metrics[kept].assign(name=run.name, seed=run.seed, epoch=epochs)


def _frame(lines, columns):
    """Dicts as a `pandas.DataFrame`."""
    # Of objects: a whole number stays one beside an empty cell.
    return _ordered(pd.DataFrame(lines, dtype=object), columns)


def _ordered(frame, columns):
    """The frame with these columns first; what it has beyond them stands behind."""
    return frame.reindex(columns=list(dict.fromkeys([*columns, *frame])))


def _write_csv(path, frame):
    write_whole(path, frame.to_csv(index=False, lineterminator="\n"))


def _read_csv(path, columns):
    """A CSV file as a `pandas.DataFrame` of strings; of no rows if there is no file."""
    if not path.exists():
        return _frame([], columns)
    try:
        return pd.read_csv(path, dtype=object, keep_default_na=False)
    except ValueError as error:
        raise ValueError(f"{path} is no table: {' '.join(str(error).split())}") from error
