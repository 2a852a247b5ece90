"""Training curves."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_patchpu.visualize.style import (
    BLUE,
    DARK,
    GREY,
    ORANGE,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_curves(
    history: Mapping[str, Sequence[float | None]],
    loss_columns: Sequence[str] = ("loss", "val_loss"),
    score_columns: Sequence[str] = ("val_mAP",),
) -> "Figure":
    """Draws training curves: losses in one panel, scores from 0 to 1 in another.

    Args:
        history: Dict of a column's name to its list of numbers, one per epoch, such as
            `model.fit(...).history`. `None` and NaN leave a gap. Columns not named below
            are not drawn.
        loss_columns: Columns of the left panel, those that `history` has. Defaults to
            `("loss", "val_loss")`.
        score_columns: Columns of the right panel, those that `history` has. Defaults to
            `("val_mAP",)`.

    Returns:
        `matplotlib.figure.Figure` with one axes for losses, one for scores; a panel
        without columns is left out.

    Raises:
        ValueError: `history` has none of the columns, or their lengths differ.
    """
    from matplotlib.ticker import MaxNLocator

    groups = []
    for title, wanted in [("loss", loss_columns), ("score", score_columns)]:
        names = [name for name in wanted if name in history]
        if names:
            groups.append((title, names))
    if not groups:
        raise ValueError(
            f"Expected `history` to have one of the columns {[*loss_columns, *score_columns]}. "
            f"Received: {sorted(history)}"
        )
    lengths = {name: len(history[name]) for _, names in groups for name in names}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise ValueError(
            "Expected every column of `history` to have one value per epoch. Received: "
            f"columns of lengths {lengths}"
        )

    figure = new_figure(4.2 * len(groups), 2.9)
    for axes, (title, names) in zip(figure.subplots(1, len(groups), squeeze=False).ravel(), groups):
        for name, colour in zip(names, [BLUE, ORANGE, DARK, GREY] * len(names)):
            values = np.array([np.nan if v is None else v for v in history[name]], dtype="float64")
            epochs = np.arange(1, len(values) + 1)
            # A gap breaks the line; the marks show an epoch that stands alone.
            axes.plot(epochs, values, marker="o", markersize=3, color=colour, label=name)
        axes.set_title(names[0] if len(names) == 1 else title, fontsize=10)
        axes.set_xlabel("epoch", fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.tick_params(labelsize=9)
        axes.grid(alpha=0.3)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        if title == "score":
            axes.set_ylim(0, 1)
        if len(names) > 1:
            axes.legend(fontsize=8, frameon=False)
    return figure
