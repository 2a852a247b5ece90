"""The results of many runs as data: one line a run, one table, one file of curves.

Imports no framework.
"""

import csv
import importlib.resources
import io
import json
import os
import pathlib
import statistics

from keras_patchpu.utils.whole_files import write_whole
from patchpu.training.config import differences
from patchpu.training.run_files import finished_report, read_environment

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
# Columns of the table in percent, with their heads; one that no run has is left out.
SCORES = {
    "val_mAP": "val mAP, last epoch",
    "best_val_mAP": "best epoch, chosen on the scored set",
    "peak_in_box": "attention's peak in the box",
    "attention_in_box": "attention inside the box",
    "box_ap_30": "box AP, overlap 0.3",
    "box_ap_50": "box AP, overlap 0.5",
    "sharpened_peak_in_box": "sharpened: peak in the box",
    "sharpened_in_box": "sharpened: inside the box",
}
_PAPER = {"paper_voc": "paper VOC", "paper_coco": "paper COCO"}
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
        List of dicts of strings, but `seed` is an integer and `uncommitted_changes` a boolean.

    Raises:
        ValueError: It is no ledger, or has two lines for one run.
    """
    path = pathlib.Path(output, _LEDGER)
    lines = _read_csv(path)
    seen = set()
    for number, line in enumerate(lines, start=2):
        try:
            line["seed"] = int(line["seed"])
            line["uncommitted_changes"] = line["uncommitted_changes"] == "True"
            whole = line["name"] and line["backend"] and None not in line
            whole = whole and isinstance(json.loads(line["settings"]), dict)
        except (KeyError, TypeError, ValueError):
            whole = False
        if not whole:
            raise ValueError(f"{path}: row {number} is none of a ledger. Received: {line}")
        if (line["name"], line["seed"]) in seen:
            raise ValueError(
                f"{path}: row {number} is a second one of {line['name']} seed {line['seed']}"
            )
        seen.add((line["name"], line["seed"]))
    return lines


def read_curves(output):
    """The lines of `curves.csv` in a folder: list of dicts of strings."""
    return _read_csv(pathlib.Path(output, _CURVES_FILE))


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
        The lines of the table's runs: list of dicts.

    Raises:
        ValueError: The ledger has a line with other settings than the finished run of this name
            and seed, or is none. Nothing is written then.
    """
    found = {(run.name, run.seed): (run, folder) for run, folder in finished_runs(grid, output)}
    old = {(line["name"], line["seed"]): line for line in read_ledger(output)}
    for key, (run, folder) in found.items():
        if key in old and line_differences(run, old[key]):
            wrong = "; ".join(line_differences(run, old[key]))
            raise ValueError(
                f"{pathlib.Path(output, _LEDGER)} and {folder} have other settings ({wrong}). "
                "Take another folder for this grid, or delete the line"
            )
    new = {key: read_run(run.name, folder) for key, (run, folder) in found.items()}
    rows = {**old, **new}
    aside = {key: why for key in old if key not in new and (why := _why_aside(grid, old[key]))}
    places = {name: place for place, name in enumerate(grid.rows)}
    inside = sorted({*rows} - {*aside}, key=lambda key: (places[key[0]], key[1]))
    lines = [rows[key] for key in inside]

    curves = {key: list(_curves(*pair)) for key, pair in found.items()}
    for row in read_curves(output):
        key = row.get("name"), int(row.get("seed") or -1)
        if key in old and key not in new:
            curves.setdefault(key, []).append(row)
    order = [*inside, *aside]
    write_whole(pathlib.Path(output, _LEDGER), _csv(COLUMNS, [rows[key] for key in order]))
    write_whole(pathlib.Path(output, _TABLE), table(lines) + notes(grid, lines, aside))
    curves = [row for key in order for row in curves.get(key, [])]
    write_whole(
        pathlib.Path(output, _CURVES_FILE), _csv(("name", "seed", "epoch", *_CURVES), curves)
    )
    return lines


def _why_aside(grid, line):
    """Why a line of an earlier ledger is not of this grid; an empty string if it is."""
    if line["name"] not in grid.rows:
        return "no row of the grid"
    return "; ".join(line_differences(grid.run(line["name"], line["seed"]), line))


def table(rows):
    """Markdown: one line a row, mean and standard deviation (n - 1) over its seeds.

    Args:
        rows: Lines of a ledger, as `write_ledger` returns or as read from `ledger.csv`.

    Returns:
        String. Beside rows that are named as a row of the paper's Table 1 stand its numbers.
    """
    names = list(dict.fromkeys(row["name"] for row in rows))
    scores = {
        column: head
        for column, head in SCORES.items()
        if any(_number(row.get(column)) is not None for row in rows)
    }
    paper = paper_numbers()
    heads = ["row", "seeds", *scores.values()]
    heads += _PAPER.values() if any(name in paper for name in names) else []
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in names:
        runs = [row for row in rows if row["name"] == name]
        cells = [f"`{name}`", ", ".join(str(row["seed"]) for row in runs)]
        cells += [_percent([row.get(column) for row in runs]) for column in scores]
        cells += [paper.get(name, {}).get(column, "") for column in _PAPER]
        lines.append(f"| {' | '.join(cells[: len(heads)])} |")
    return "\n".join(lines) + "\n"


def notes(grid, rows, aside=None):
    """What a reader of the table has to know: what is missing, and what differs between runs.

    Args:
        grid: `Grid`.
        rows: Lines of the ledger that are in the table.
        aside: Dict from name and seed of those that are not to the reason. Defaults to `None`.

    Returns:
        Markdown.
    """
    done = {(row["name"], row["seed"]) for row in rows}
    missing = [
        f"{name} seed {seed}"
        for name in grid.rows
        for seed in grid.seeds
        if (name, seed) not in done
    ]
    changed = [f"{row['name']} seed {row['seed']}" for row in rows if row["uncommitted_changes"]]
    lines = [f"Not done yet: {', '.join(missing)}."] if missing else []
    if changed:
        lines.append(f"Run with uncommitted changes: {', '.join(changed)}.")
    for column in ("commit", "backend", "machine", "keras"):
        # No value is None in a run's folder, and an empty cell in a ledger.
        values = sorted({str(row.get(column) or "unknown") for row in rows})
        if len(values) > 1:
            lines.append(f"The runs differ in {column}: {'; '.join(values)}.")
    for (name, seed), why in (aside or {}).items():
        lines.append(f"In the ledger but not in this table: {name} seed {seed} ({why}).")
    return "".join(f"\n{line}\n" for line in lines)


def _percent(values):
    """`91.8 ± 1.0` in percent; nothing where a run does not have the number."""
    values = [_number(value) for value in values]
    if None in values:
        return ""
    mean, spread = mean_and_spread([100 * value for value in values])
    return f"{mean:.1f}" + ("" if spread is None else f" ± {spread:.1f}")


def mean_and_spread(values):
    """Mean and standard deviation (n - 1) of numbers; the latter is `None` for one number."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None


def _number(value):
    return None if value in (None, "") else float(value)


def paper_numbers():
    """Table 1 of the paper: dict from the row's name to its numbers, as strings."""
    text = importlib.resources.files(__package__).joinpath("table1_paper.csv").read_text()
    return {row["name"]: row for row in csv.DictReader(io.StringIO(text))}


def _curves(run, folder):
    """What the lines of `metrics.csv` say, but for times."""
    with (folder / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            kept = {key: row[key] for key in row if key in _CURVES or key.startswith("wn_")}
            yield {"name": run.name, "seed": run.seed, "epoch": int(row["epoch"]), **kept}


def _csv(columns, rows):
    """Text of a CSV file; what rows have beyond the columns stands in columns behind them."""
    columns = dict.fromkeys([*columns, *(key for row in rows for key in row)])
    file = io.StringIO()
    writer = csv.DictWriter(file, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _read_csv(path):
    """Rows of a CSV file as dicts of strings; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
