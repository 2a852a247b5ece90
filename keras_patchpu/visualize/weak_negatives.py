"""The weak negatives of images, a bar a label."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_patchpu.visualize.style import (
    BAND,
    DARK,
    GREY,
    ORANGE,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_weak_negatives(
    labels_observed: np.ndarray,
    labels_true: np.ndarray,
    weights: np.ndarray,
    probabilities: np.ndarray,
    label_names: Sequence[str],
) -> "Figure":
    """Draws what eq. (7)-(8) makes of the unobserved labels of one image or a few.

    A bar for each label is its weak-negative weight, coloured by what is known and what
    is true: grey for a label that is truly absent (a high bar is right), orange for one
    that is present but was not observed (a high bar tells the model something false). A
    blue band marks the label observed present, whose weight is 0. Dots are the
    probabilities.

    Args:
        labels_observed: `(N, L)`, or `(L,)` for one image: +1 observed present, 0 unknown,
            -1 observed absent.
        labels_true: True annotation, 0/1, of the same shape.
        weights: `keras_patchpu.losses.weak_negatives` of these images, same shape.
        probabilities: Of the labels, same shape.
        label_names: L strings.

    Returns:
        `matplotlib.figure.Figure` with one axes for each image, one below the other.

    Raises:
        ValueError: Shapes do not match, or a value is not in its domain.

    Reference:
        Jouanneau et al., section 3.3, eq. (7)-(8).
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    observed = np.asarray(labels_observed)
    given = [
        ("labels_true", np.asarray(labels_true)),
        ("weights", np.asarray(weights, dtype="float64")),
        ("probabilities", np.asarray(probabilities, dtype="float64")),
    ]
    if observed.ndim not in (1, 2) or observed.shape[-1] != len(label_names):
        raise ValueError(
            f"Expected `labels_observed` to have the shape (images, {len(label_names)}) or "
            f"({len(label_names)},), one value per label name. Received: shape {observed.shape}"
        )
    for name, values in given:
        if values.shape != observed.shape:
            raise ValueError(
                f"Expected `{name}` to have the shape of `labels_observed`, {observed.shape}. "
                f"Received: shape {values.shape}"
            )
    for name, values, domain in [
        ("labels_observed", observed, (-1, 0, 1)),
        ("labels_true", given[0][1], (0, 1)),
    ]:
        if not np.isin(values, domain).all():
            raise ValueError(
                f"Expected `{name}` to hold values of {domain}. Received: "
                f"{np.unique(values)[:5].tolist()}"
            )
    observed, true, weights, probabilities = (
        np.atleast_2d(values) for values in [observed, *(values for _, values in given)]
    )

    count, num_labels = observed.shape
    figure = new_figure(max(6.0, 0.32 * num_labels + 1.5), 1.75 * count + 1.0)
    places = np.arange(num_labels)
    panels = figure.subplots(count, 1, squeeze=False, sharex=True).ravel()
    for row, axes in enumerate(panels):
        for place in np.flatnonzero(observed[row] > 0):
            axes.axvspan(place - 0.5, place + 0.5, **BAND)
        hidden = (true[row] == 1) & (observed[row] == 0)
        absent = (true[row] == 0) & (observed[row] == 0)
        for chosen, colour in [(hidden, ORANGE), (absent, GREY), (observed[row] < 0, DARK)]:
            axes.bar(places[chosen], weights[row, chosen], width=0.7, color=colour)
        axes.plot(
            places, probabilities[row], "o", markersize=5, color=DARK, markeredgecolor="white"
        )
        axes.set_ylim(0, 1.06)
        axes.set_xlim(-0.5, num_labels - 0.5)
        axes.set_yticks([0, 0.5, 1])
        axes.set_ylabel("weight, probability" if count == 1 else f"image {row}", fontsize=9)
        axes.tick_params(labelsize=9)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    long_names = max(len(str(name)) for name in label_names) > 2
    panels[-1].set_xticks(places, label_names, rotation=90 if long_names else 0)
    panels[-1].set_xlabel("label", fontsize=9)
    handles = [
        Patch(**BAND, label="observed present (weight 0)"),
        Patch(color=ORANGE, label="weight, present but not observed"),
        Patch(color=GREY, label="weight, truly absent"),
    ]
    if (observed < 0).any():
        handles.append(Patch(color=DARK, label="weight, observed absent"))
    handles.append(
        Line2D([], [], marker="o", linestyle="", color=DARK, label="predicted probability")
    )
    figure.legend(handles=handles, loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    return figure
