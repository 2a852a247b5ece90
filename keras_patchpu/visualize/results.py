"""Pictures of what came out of a run, as matplotlib figures; see `visualize`."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_patchpu.metrics.heat_maps import boxes_of_label, heat_pixels
from keras_patchpu.visualize.attention import draw_attention
from keras_patchpu.visualize.style import BLUE, DARK, GREY, ORANGE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_negatives_quality(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draws how right the weak negatives are, epoch by epoch.

    Left precision, recall and AUC, and, as a wide grey line, the share of the unobserved labels
    that is truly absent: the precision of weights that know nothing. Right, if the rows have
    them, the mean weights of labels that are truly absent (high is right) and present (low is
    right).

    Args:
        rows: One dict for each epoch, with `"epoch"` and the numbers of
            `keras_patchpu.metrics.negatives_quality`, or those of the callback
            `WeakNegativeQuality`, which begin with `wn_`. `None` and NaN leave a gap.

    Returns:
        `matplotlib.figure.Figure` with one axes or two.

    Raises:
        ValueError: There is no row, or one without epoch, precision, recall or AUC.
    """
    from matplotlib.ticker import MaxNLocator

    rows = [{key.removeprefix("wn_"): value for key, value in row.items()} for row in rows]
    needed = {"epoch", "precision", "recall", "auc"}
    if not rows or not all(needed <= set(row) for row in rows):
        raise ValueError(
            f"Expected at least one row, each with {sorted(needed)}. Received: "
            f"{[sorted(row) for row in rows[:1]]}"
        )
    weights = [
        ("mean_weight_absent", "truly absent", GREY),
        ("mean_weight_present", "present, not observed", ORANGE),
    ]
    has_weights = all(name in row for name, *_ in weights for row in rows)
    panels = [("weak negatives", [("precision", "precision", BLUE)])]
    panels[0][1].extend([("recall", "recall", ORANGE), ("auc", "AUC", DARK)])
    if has_weights:
        panels.append(("mean weight of labels", weights))

    figure = new_figure(4.6 * len(panels), 3.1)
    epochs = np.array([float(row["epoch"]) for row in rows])
    for axes, (title, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        for name, label, colour in lines:
            values = _column(rows, name)
            axes.plot(epochs, values, marker="o", markersize=3, color=colour, label=label)
        if title == "weak negatives" and all("absent_share" in row for row in rows):
            share = _column(rows, "absent_share")
            # Wide and below the others: precision may lie right on it.
            style = {"color": "#cccccc", "linewidth": 6, "zorder": 1}
            axes.plot(epochs, share, **style, label="share of absent labels")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch", fontsize=9)
        axes.set_ylim(0, 1.02)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.tick_params(labelsize=9)
        axes.grid(alpha=0.3)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
    return figure


def draw_localization_extremes(
    image_of: Callable[[int], np.ndarray],
    heat: Any,
    pairs: Mapping[str, np.ndarray],
    boxes: Any,
    box_labels: Any = None,
    label_names: Sequence[str] | None = None,
    count: int = 4,
    heat_name: str = "attention",
) -> "Figure":
    """Draws the best and the worst located labels: image, heat and true boxes.

    Upper panels: the largest shares of heat inside the boxes of the label, best first; lower
    panels: the smallest, worst first; of equal shares the earlier images. Above each stand the
    label, that share, and the share that even heat would have. What is red is as of
    `draw_attention` with `lowest=1.0`.

    Args:
        image_of: Function of the number of an image, such as `images.__getitem__`, that gives
            its pixels `(H, W, 3)`, from 0 to 255. Called only for images that are drawn.
        heat, boxes, box_labels: As of `keras_patchpu.metrics.localization`.
        pairs: What `localization` gave as `"pairs"`.
        label_names: L strings. Defaults to `None`: numbers.
        count: Labels above and below, at most; fewer if there are not twice as many. Defaults
            to `4`.
        heat_name: As of `draw_attention`. Defaults to `"attention"`.

    Returns:
        `matplotlib.figure.Figure`, as of `draw_attention`.

    Raises:
        ValueError: There is no pair.
    """
    shares = np.asarray(pairs["attention_in_box"])
    if not len(shares) or count < 1:
        raise ValueError(
            "Expected at least one pair of image and label, and `count` of at least 1. Received: "
            f"{len(shares)} pairs, count={count!r}"
        )
    columns = min(count, -(-len(shares) // 2))
    best = np.argsort(-shares, kind="stable")[:columns]
    worst = [i for i in np.argsort(shares, kind="stable") if i not in best][:columns]
    chosen = [(pairs["row"][i], pairs["column"][i], i) for i in [*best, *worst]]
    images = [image_of(int(row)) for row, _, _ in chosen]
    titles, heatmaps, outlines = [], [], []
    for image, (row, column, place) in zip(images, chosen):
        name = column if label_names is None else label_names[column]
        area = pairs["box_area"][place]
        titles.append(f"{name}\n{shares[place]:.0%} inside (even: {area:.0%})")
        (heatmap,) = heat_pixels(heat, [row], [column], np.shape(image)[:2])
        # A label without any heat is drawn as the plain image.
        heatmaps.append(heatmap if heatmap.max() > 0 else np.ones_like(heatmap))
        outlines.append(boxes_of_label(boxes, box_labels, row, column))
    figure = draw_attention(images, heatmaps, titles, outlines, columns, 1.0, heat_name)
    figure.axes[0].set_ylabel("best located", fontsize=10)
    if len(worst):
        figure.axes[columns].set_ylabel("worst located", fontsize=10)
    return figure


def _column(rows, name):
    """Values of one column as numbers; an empty cell of a CSV file is NaN too."""
    return [np.nan if row[name] in (None, "") else float(row[name]) for row in rows]
