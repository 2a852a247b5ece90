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

import yaml

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
_SCORES = {
    "val_mAP": "val mAP, last epoch",
    "best_val_mAP": "best epoch, chosen on the scored set",
    "peak_in_box": "attention's peak in the box",
    "attention_in_box": "attention inside the box",
    "box_ap_30": "box AP, overlap 0.3",
    "box_ap_50": "box AP, overlap 0.5",
}
_PAPER = {"paper_voc": "paper VOC", "paper_coco": "paper COCO"}
_CURVES = ("val_mAP", "loss")


def saved_settings(folder):
    """Settings of the run in a folder, or `None` if none was begun there."""
    path = pathlib.Path(folder, "config.yaml")
    return yaml.safe_load(path.read_text()) if path.exists() else None


def differences(config, saved):
    """How saved settings differ from those of a `TrainConfig`: list of strings."""
    return [
        f"{name}: {saved.get(name)!r} in the folder, {value!r} now"
        for name, value in config.settings().items()
        if saved.get(name) != value
    ]


def finished_report(folder):
    """The report of a run that came to its end, or `None`."""
    path = pathlib.Path(folder, "report.json")
    if not path.exists():
        return None
    report = json.loads(path.read_text())
    # A run whose loss is no number any more writes its report before its last epoch.
    return report if report["epochs"] == report["settings"]["epochs"] else None


def read_environment(folder):
    """Where a run was begun: its command, commit, backend, machine and versions."""
    return json.loads(pathlib.Path(folder, "environment.json").read_text())


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
    box_ap = places.get("box_ap", {})
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


def write_ledger(grid, output):
    """Writes `ledger.csv`, `table.md` and `curves.csv` of what is done, each file whole.

    Args:
        grid: `Grid`.
        output: Folder of its runs.

    Returns:
        The lines of the ledger: list of dicts.
    """
    runs = finished_runs(grid, output)
    rows = [read_run(run.name, folder) for run, folder in runs]
    _replace(output, "ledger.csv", _csv(COLUMNS, rows))
    _replace(output, "table.md", table(rows) + notes(grid, rows))
    curves = [row for run, folder in runs for row in _curves(run, folder)]
    extra = dict.fromkeys(key for row in curves for key in row if key.startswith("wn_"))
    _replace(output, "curves.csv", _csv(("name", "seed", "epoch", *_CURVES, *extra), curves))
    return rows


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
        for column, head in _SCORES.items()
        if any(_number(row.get(column)) is not None for row in rows)
    }
    paper = _paper_numbers()
    heads = ["row", "seeds", *scores.values()]
    heads += _PAPER.values() if any(name in paper for name in names) else []
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in names:
        runs = [row for row in rows if row["name"] == name]
        cells = [f"`{name}`", ", ".join(str(row["seed"]) for row in runs)]
        cells += [_mean_and_spread([row.get(column) for row in runs]) for column in scores]
        cells += [paper.get(name, {}).get(column, "") for column in _PAPER]
        lines.append(f"| {' | '.join(cells[: len(heads)])} |")
    return "\n".join(lines) + "\n"


def notes(grid, rows):
    """What a reader of the table has to know: what is missing, and what differs between runs."""
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
        values = sorted({str(row[column]) for row in rows})
        if len(values) > 1:
            lines.append(f"The runs differ in {column}: {'; '.join(values)}.")
    return "".join(f"\n{line}\n" for line in lines)


def _mean_and_spread(values):
    """`91.8 ± 1.0` in percent; nothing where a run does not have the number."""
    values = [_number(value) for value in values]
    if None in values:
        return ""
    values = [100 * value for value in values]
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def _number(value):
    return None if value in (None, "") else float(value)


def _paper_numbers():
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
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _replace(folder, name, text):
    temporary = pathlib.Path(folder, f".{name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, pathlib.Path(folder, name))
