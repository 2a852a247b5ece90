"""Makes the results table from run folders: `python results/collect.py OUT RUN [RUN ...]`.

Writes OUT/runs.csv, one line a run, and OUT/table.md, mean and spread over seeds.
"""

import csv
import json
import pathlib
import statistics
import sys

import yaml

LOSSES = {
    "bce": "full labels (upper bound)",
    "wn": "weak negatives (the paper's)",
    "an": "assume negative",
    "epr": "expected positive regularization",
}
COLUMNS = ("val_mAP", "best_val_mAP", "peak_in_box", "attention_in_box")


def read_run(path):
    """One line of the ledger from a run folder."""
    path = pathlib.Path(path)
    report = json.loads((path / "report.json").read_text())
    environment = json.loads((path / "environment.json").read_text())
    settings = yaml.safe_load((path / "config.yaml").read_text())
    return {
        "dataset": settings["dataset"],
        "loss": settings["loss"],
        "seed": settings["seed"],
        "val_mAP": report["val_mAP"],
        "best_val_mAP": report["best_epoch"]["val_mAP"],
        "best_epoch": report["best_epoch"]["epoch"],
        "peak_in_box": report["localization"]["peak_in_box"],
        "attention_in_box": report["localization"]["attention_in_box"],
        "minutes": report["minutes"],
        "parameters": report["parameters"],
        "commit": environment["commit"],
        "uncommitted_changes": environment["uncommitted_changes"],
        "backend": environment["backend"],
        "machine": environment["machine"],
        "keras": environment["versions"]["keras"],
        "command": environment["command"],
        "settings": json.dumps(settings),
    }


def table(rows):
    """Markdown: one line a loss, mean and standard deviation over its seeds."""
    lines = [
        "| loss | seeds | val mAP, last epoch | at the best epoch | attention's peak in the box | "
        "attention inside the box |",
        "|---|---|---|---|---|---|",
    ]
    for loss, name in LOSSES.items():
        runs = [row for row in rows if row["loss"] == loss]
        if not runs:
            continue
        cells = []
        for column in COLUMNS:
            values = [float(row[column]) * 100 for row in runs]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{spread}")
        seeds = ", ".join(str(row["seed"]) for row in runs)
        lines.append(f"| `{loss}` {name} | {seeds} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(out, *paths):
    rows = sorted(
        (read_run(path) for path in paths), key=lambda r: (list(LOSSES).index(r["loss"]), r["seed"])
    )
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "runs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (out / "table.md").write_text(table(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
