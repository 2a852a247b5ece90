"""Pictures of a ledger, the results of many runs, as matplotlib figures; see `visualize`."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from keras_patchpu.visualize.style import BLUE, DARK, GREY, ORANGE, new_figure
from patchpu.grids.table import SCORES, numbers, paper_numbers

_PAPER = {"paper_voc": ("the paper's, VOC", "D"), "paper_coco": ("the paper's, COCO", "s")}
_BELOW = 0.25  # of the distance between rows
_LEAST_SPAN = 1.0  # percent; less would make much of nothing


def draw_table(runs, columns=("val_mAP",)):
    """Draws the table of a ledger: a line for each row, a panel for each column, in percent.

    A dot is the mean over seeds, its bar one standard deviation (n - 1) to each side, the small
    dots below it are the seeds. Beside rows that are named as one of the paper's Table 1 stand its
    numbers, in the panel of `val_mAP`: they are of other data unless the ledger is of VOC or COCO.

    Args:
        runs: `pandas.DataFrame` of lines of a ledger, see `patchpu.grids.ledger.read_ledger`.
        columns: Columns of the ledger that hold shares. Rows without a number are left empty.
            Defaults to `("val_mAP",)`.

    Returns:
        `matplotlib.figure.Figure` with one axes for each column.

    Raises:
        ValueError: There is no row, or no run has a number in one of the columns.
    """
    scores = 100 * numbers(runs.reindex(columns=list(columns)))
    for column in columns:
        if not scores[column].notna().any():
            raise ValueError(
                f"Expected at least one run with a number in {column!r}. Received: {len(runs)} runs"
            )
    by_row = scores.groupby(runs["name"], sort=False)
    means, spreads = by_row.mean(), by_row.std()
    places = {name: place for place, name in enumerate(means.index)}
    width = min(4.4, 11 / len(columns))
    figure = new_figure(1.4 + width * len(columns), 1.3 + 0.32 * len(means))
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axes, column in zip(panels, columns):
        style = {"color": BLUE, "markersize": 6, "capsize": 3, "zorder": 3}
        label = "mean and standard deviation over seeds"
        for name, mean in means[column].dropna().items():
            spread = spreads.loc[name, column]
            spread = None if np.isnan(spread) else spread
            axes.errorbar(mean, places[name], xerr=spread, fmt="o", label=label, **style)
            label = None
        seeds = scores[column].dropna()
        below = runs.loc[seeds.index, "name"].map(places) + _BELOW
        axes.plot(seeds, below, "o", color=BLUE, alpha=0.5, markersize=2.5)
        if column == "val_mAP":
            _draw_paper(axes, places)
        axes.set_title(SCORES.get(column, column), fontsize=10)
        axes.set_xlabel("%", fontsize=9)
        lowest, highest = axes.get_xlim()
        if highest - lowest < _LEAST_SPAN:
            middle = (lowest + highest) / 2
            axes.set_xlim(middle - _LEAST_SPAN / 2, middle + _LEAST_SPAN / 2)
        axes.tick_params(labelsize=9)
        axes.grid(alpha=0.3)
        _bare(axes)
    panels[0].set_yticks(range(len(means)), means.index)
    panels[0].set_ylim(len(means) - 0.4, -0.6)  # shared: the first row is the highest
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def draw_curves(curves, column="val_mAP"):
    """Draws how a number goes with the epochs: a panel for each row of the table.

    Blue are the row's seeds, grey the means of the other rows.

    Args:
        curves: `pandas.DataFrame` of lines of `curves.csv`, see
            `patchpu.grids.ledger.read_curves`.
        column: Column of it. Rows without a number are left out. Defaults to `"val_mAP"`.

    Returns:
        `matplotlib.figure.Figure` with one axes for each row of the table.

    Raises:
        ValueError: There is no number in this column.
    """
    values = numbers(curves.reindex(columns=["epoch", column])).assign(
        name=curves["name"], seed=curves["seed"]
    )
    values = values.dropna(subset=[column])
    if values.empty:
        raise ValueError(f"Expected numbers in {column!r}. Received: {len(curves)} rows without")
    names = values["name"].unique()
    means = values.groupby(["name", "epoch"])[column].mean()
    columns = min(len(names), 5)
    lines = -(-len(names) // columns)
    figure = new_figure(0.6 + 2.1 * columns, 2.0 * lines)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, name in zip(panels, names):
        for other in names[names != name]:
            axes.plot(means[other], color=GREY, linewidth=0.7, alpha=0.6)
        for _, own in values[values["name"] == name].groupby("seed", sort=False):
            style = {"color": BLUE, "linewidth": 1.2, "marker": "o", "markersize": 2}
            axes.plot(own["epoch"], own[column], **style)
        axes.set_title(name, fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        _bare(axes)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel(SCORES.get(column, column).partition(",")[0], fontsize=9)
    return figure


def mean_negatives(curves, name):
    """The quality of a row's weak negatives by epoch, mean over its seeds.

    Args:
        curves: `pandas.DataFrame` of lines of `curves.csv`.
        name: Name of the row.

    Returns:
        List of dicts for `visualize_results.draw_negatives_quality`; empty if the row has none.
    """
    own = curves[curves["name"] == name]
    columns = [column for column in curves if column.startswith("wn_")]
    means = numbers(own[columns]).groupby(own["epoch"].astype(int)).mean().dropna(how="all")
    means = means.astype(object).where(means.notna(), None)
    return means.reset_index().to_dict("records")


def _draw_paper(axes, places):
    paper = numbers(paper_numbers())
    for column, (label, marker) in _PAPER.items():
        known = paper.loc[paper.index.isin(places), column].dropna()
        if len(known):
            colour = ORANGE if column == "paper_voc" else DARK
            style = {"facecolors": "none", "edgecolors": colour, "s": 28, "zorder": 2}
            axes.scatter(known, known.index.map(places), marker=marker, label=label, **style)


def _bare(axes):
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
