"""The table of a ledger: mean and spread over seeds beside the paper's numbers, and notes."""

import importlib.resources

import numpy as np
import pandas as pd

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
_SHOWN_WHERE_DIFFERENT = ("commit", "backend", "machine", "keras")


def table(runs):
    """Markdown: one line a row, mean and standard deviation (n - 1) over its seeds.

    A cell is empty where a run of the row lacks the number.

    Args:
        runs: `pandas.DataFrame` of lines of a ledger, as of `read_ledger`.

    Returns:
        String. Beside rows that are named as a row of the paper's Table 1 stand its numbers.
    """
    scores = 100 * numbers(runs.reindex(columns=list(SCORES))).dropna(axis="columns", how="all")
    by_row = scores.groupby(runs["name"], sort=False)
    complete = by_row.count().eq(by_row.size(), axis="index")
    means, spreads = by_row.mean().where(complete), by_row.std()
    seeds = runs.groupby("name", sort=False)["seed"]
    paper = paper_numbers().reindex(means.index).fillna("")
    if not paper.any(axis=None):
        paper = paper.iloc[:, :0]
    heads = ["row", "seeds", *map(SCORES.get, means), *map(_PAPER.get, paper)]
    lines = [heads, *([f"`{name}`", ", ".join(map(str, own))] for name, own in seeds)]
    for line, name in zip(lines[1:], means.index):
        line.extend(map(_with_spread, means.loc[name], spreads.loc[name]))
        line.extend(paper.loc[name])
    head, *rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([head, "|---" * len(heads) + "|", *rows]) + "\n"


def notes(grid, runs, aside):
    """What a reader of the table has to know: what is missing, and what differs between runs.

    Args:
        grid: `Grid`.
        runs: `pandas.DataFrame` of the lines that are in the table.
        aside: Dict from name and seed of those that are not to the reason.

    Returns:
        Markdown.
    """
    done = set(zip(runs["name"], runs["seed"]))
    missing = [
        f"{name} seed {seed}"
        for name in grid.rows
        for seed in grid.seeds
        if (name, seed) not in done
    ]
    changed = runs[runs["uncommitted_changes"].astype(bool)]
    changed = [f"{name} seed {seed}" for name, seed in zip(changed["name"], changed["seed"])]
    lines = [f"Not done yet: {', '.join(missing)}."] if missing else []
    if changed:
        lines.append(f"Run with uncommitted changes: {', '.join(changed)}.")
    for column in _SHOWN_WHERE_DIFFERENT:
        # No value is None in a run's folder, and an empty cell in a ledger.
        values = sorted({str(value or "unknown") for value in runs[column]})
        if len(values) > 1:
            lines.append(f"The runs differ in {column}: {'; '.join(values)}.")
    for (name, seed), why in aside.items():
        lines.append(f"In the ledger but not in this table: {name} seed {seed} ({why}).")
    return "".join(f"\n{line}\n" for line in lines)


def numbers(cells):
    """Cells of a CSV file as numbers: NaN where nothing stands.

    Args:
        cells: `pandas.DataFrame` or `pandas.Series` of strings, numbers and `None`.

    Returns:
        The same of floats.
    """
    return cells.astype(object).replace("", np.nan).astype(float)


def paper_numbers():
    """Table 1 of the paper: `pandas.DataFrame` of strings, by the row's name."""
    with importlib.resources.files(__package__).joinpath("table1_paper.csv").open() as file:
        paper = pd.read_csv(file, index_col="name", dtype=str, keep_default_na=False)
    return paper[list(_PAPER)]


def _with_spread(mean, spread):
    """`91.8 ± 1.0`; `91.8` of one run, nothing of none."""
    if np.isnan(mean):
        return ""
    return f"{mean:.1f}" + ("" if np.isnan(spread) else f" ± {spread:.1f}")
