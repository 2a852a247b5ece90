"""Pictures of a ledger, the results of many runs, as matplotlib figures; see `visualize`."""

import numpy as np

from keras_patchpu.visualize.style import BLUE, DARK, GREY, ORANGE, new_figure
from patchpu.grids.ledger import SCORES, mean_and_spread, paper_numbers

_PAPER = {"paper_voc": ("the paper's, VOC", "D"), "paper_coco": ("the paper's, COCO", "s")}
_BELOW = 0.25  # of the distance between rows
_LEAST_SPAN = 1.0  # percent; less would make much of nothing


def draw_table(rows, columns=("val_mAP",)):
    """Draws the table of a ledger: a line for each row, a panel for each column, in percent.

    A dot is the mean over seeds, its bar one standard deviation (n - 1) to each side, the small
    dots below it are the seeds. Beside rows that are named as one of the paper's Table 1 stand its
    numbers, in the panel of `val_mAP`: they are of other data unless the ledger is of VOC or COCO.

    Args:
        rows: Lines of a ledger, see `experiments.ledger.read_ledger`.
        columns: Columns of the ledger that hold shares. Rows without a number are left empty.
            Defaults to `("val_mAP",)`.

    Returns:
        `matplotlib.figure.Figure` with one axes for each column.

    Raises:
        ValueError: There is no row, or no run has a number in one of the columns.
    """
    names = list(dict.fromkeys(row["name"] for row in rows))
    seeds = {
        (name, column): [
            100 * value for row in rows if row["name"] == name for value in _numbers([row], column)
        ]
        for name in names
        for column in columns
    }
    for column in columns:
        if not any(seeds[name, column] for name in names):
            raise ValueError(
                f"Expected at least one run with a number in {column!r}. Received: {len(rows)} runs"
            )
    width = min(4.4, 11 / len(columns))
    figure = new_figure(1.4 + width * len(columns), 1.3 + 0.32 * len(names))
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axes, column in zip(panels, columns):
        for place, name in enumerate(names):
            values = seeds[name, column]
            if not values:
                continue
            mean, spread = mean_and_spread(values)
            style = {"color": BLUE, "markersize": 6, "capsize": 3, "zorder": 3}
            mark = axes.errorbar(mean, place, xerr=spread, fmt="o", **style)
            below = [place + _BELOW] * len(values)
            axes.plot(values, below, "o", color=BLUE, alpha=0.5, markersize=2.5)
        mark.set_label("mean and standard deviation over seeds")
        if column == "val_mAP":
            _draw_paper(axes, names)
        axes.set_title(SCORES.get(column, column), fontsize=10)
        axes.set_xlabel("%", fontsize=9)
        lowest, highest = axes.get_xlim()
        if highest - lowest < _LEAST_SPAN:
            middle = (lowest + highest) / 2
            axes.set_xlim(middle - _LEAST_SPAN / 2, middle + _LEAST_SPAN / 2)
        axes.tick_params(labelsize=9)
        axes.grid(alpha=0.3)
        _bare(axes)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.4, -0.6)  # shared: the first row is the highest
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def draw_curves(curves, column="val_mAP"):
    """Draws how a number goes with the epochs: a panel for each row of the table.

    Blue are the row's seeds, grey the means of the other rows.

    Args:
        curves: Lines of `curves.csv`, see `experiments.ledger.read_curves`.
        column: Column of it. Rows without a number are left out. Defaults to `"val_mAP"`.

    Returns:
        `matplotlib.figure.Figure` with one axes for each row of the table.

    Raises:
        ValueError: There is no number in this column.
    """
    from matplotlib.ticker import MaxNLocator

    seeds = {}  # by row and seed: epochs and values
    for row in curves:
        for value in _numbers([row], column):
            points = seeds.setdefault(row["name"], {}).setdefault(int(row["seed"]), [])
            points.append((int(row["epoch"]), value))
    if not seeds:
        raise ValueError(f"Expected numbers in {column!r}. Received: {len(curves)} rows without")
    means = {name: _mean_curve(list(runs.values())) for name, runs in seeds.items()}
    columns = min(len(seeds), 5)
    lines = -(-len(seeds) // columns)
    figure = new_figure(0.6 + 2.1 * columns, 2.0 * lines)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (name, runs) in zip(panels, seeds.items()):
        for other, points in means.items():
            if other != name:
                axes.plot(*points, color=GREY, linewidth=0.7, alpha=0.6)
        for points in runs.values():
            axes.plot(*zip(*points), color=BLUE, linewidth=1.2, marker="o", markersize=2)
        axes.set_title(name, fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        _bare(axes)
    for axes in panels[len(seeds) :]:
        axes.set_visible(False)
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel(SCORES.get(column, column).partition(",")[0], fontsize=9)
    return figure


def mean_negatives(curves, name):
    """The quality of a row's weak negatives by epoch, mean over its seeds.

    Args:
        curves: Lines of `curves.csv`.
        name: Name of the row.

    Returns:
        List of dicts for `visualize_results.draw_negatives_quality`; empty if the row has none.
    """
    rows = [row for row in curves if row["name"] == name]
    columns = [key for key in (rows[0] if rows else ()) if key.startswith("wn_")]
    found = []
    for epoch in sorted({int(row["epoch"]) for row in rows}):
        own = [row for row in rows if int(row["epoch"]) == epoch]
        values = {column: _numbers(own, column) for column in columns}
        means = {key: float(np.mean(numbers)) for key, numbers in values.items() if numbers}
        if means:
            found.append({"epoch": epoch, **dict.fromkeys(columns), **means})
    return found


def _draw_paper(axes, names):
    paper = paper_numbers()
    for column, (label, marker) in _PAPER.items():
        points = [
            (float(paper[name][column]), place)
            for place, name in enumerate(names)
            if name in paper and paper[name][column]
        ]
        if points:
            colour = ORANGE if column == "paper_voc" else DARK
            style = {"facecolors": "none", "edgecolors": colour, "s": 28, "zorder": 2}
            axes.scatter(*zip(*points), marker=marker, label=label, **style)


def _mean_curve(runs):
    """Epochs, and the mean over the runs that have the epoch."""
    values = {}
    for points in runs:
        for epoch, value in points:
            values.setdefault(epoch, []).append(value)
    return sorted(values), [float(np.mean(values[epoch])) for epoch in sorted(values)]


def _numbers(rows, column):
    """Values of a column as numbers, without empty cells and NaN."""
    cells = [row.get(column) for row in rows]
    numbers = [float(cell) for cell in cells if cell not in (None, "")]
    return [number for number in numbers if np.isfinite(number)]


def _bare(axes):
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
