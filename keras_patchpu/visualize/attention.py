"""Where a model looks: images under heat maps."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_patchpu.visualize.style import (
    LEAST_PEAK,
    OPACITY,
    RED,
    attention_bar,
    box_legend,
    checked_heat,
    checked_pixels,
    new_figure,
    outline_boxes,
    set_title,
    without_ticks,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def attention_overlay(
    image: np.ndarray,
    heatmap: np.ndarray,
    highest: float | None = None,
    lowest: float = 0.0,
    opacity: float = OPACITY,
) -> np.ndarray:
    """Lays a heat map over an image, from transparent to red as in the paper's Fig. 3.

    A mixture of image and red: on a white image red shows as the loss of green and blue,
    on a black one as the gain of red.

    Args:
        image: `(H, W, 3)` with values from 0 to 255, uint8 or float.
        heatmap: `(H, W)`, finite numbers in any scale.
        highest: Value from which on the red is strongest. Defaults to `None`: the largest
            of `heatmap`.
        lowest: Value up to which the image stays as it is. Defaults to `0.0`.
        opacity: Share of red at `highest`, from 0 to 1. Defaults to `0.7`.

    Returns:
        float64 array `(H, W, 3)`, values from 0 to 1. Where `highest` is not above
        `lowest`, as for a map of zeros, it is the image.

    Raises:
        ValueError: A shape or a value is not as above.

    Reference:
        Jouanneau et al., section 4.3, Fig. 3.
    """
    pixels = checked_pixels("image", image)
    heat = checked_heat("heatmap", heatmap, pixels.shape[:2])
    if not 0 <= opacity <= 1:
        raise ValueError(f"Expected `opacity` to be from 0 to 1. Received: opacity={opacity!r}")
    highest = heat.max() if highest is None else highest
    if highest <= lowest:
        return pixels
    strength = opacity * np.clip((heat - lowest) / (highest - lowest), 0.0, 1.0)[..., None]
    return (1.0 - strength) * pixels + strength * np.array(RED)


def draw_attention(
    images: np.ndarray | Sequence[np.ndarray],
    heatmaps: np.ndarray | Sequence[np.ndarray],
    titles: Sequence[str],
    boxes: np.ndarray | Sequence[np.ndarray | None] | None = None,
    columns: int = 4,
    lowest: float = 0.0,
    heat_name: str = "attention",
) -> "Figure":
    """Draws where labels look: a grid of images, each under the attention of one label.

    Each panel has its own scale, so that the strongest attention of each is red; below
    the panel stands how strong that is, as a multiple of the mean over the image (1: no
    place stands out). A peak of less than twice the mean is drawn fainter, so that
    nearly even attention does not look like a find. A colour bar tells what the red means.

    Args:
        images: N images `(H, W, 3)` with values from 0 to 255; sizes may differ.
        heatmaps: N heat maps `(H, W)`, not negative and not all zero, in any scale: one
            label of `keras_patchpu.metrics.attention_heatmap` each.
        titles: N strings, such as the label and its probability.
        boxes: What to outline in each image: a list of N entries, each `None`, one box
            `(4,)` or several `(K, 4)`, of `(y_min, x_min, y_max, x_max)` from 0 to 1
            relative to the image. A box without area, as `Digits.boxes` has for an absent
            digit, is not drawn. Defaults to `None`: no outlines.
        columns: Panels in a row, at most. Defaults to `4`.
        lowest: Multiple of the mean up to which the image stays as it is; with `1.0` only
            attention above the mean is red. Defaults to `0.0`.
        heat_name: What the colour bar calls the heat. Defaults to `"attention"`.

    Returns:
        `matplotlib.figure.Figure` with N + 1 axes, the last one the colour bar.

    Raises:
        ValueError: Shapes or numbers of entries do not match.

    Reference:
        Jouanneau et al., section 4.3, Fig. 3.
    """
    count = len(images)
    for name, values in [("heatmaps", heatmaps), ("titles", titles), ("boxes", boxes)]:
        if values is not None and len(values) != count:
            raise ValueError(
                f"Expected `{name}` to have one entry per image, {count}. Received: {len(values)}"
            )
    if count == 0 or columns < 1:
        raise ValueError(
            "Expected at least one image and one column. Received: "
            f"{count} images, columns={columns!r}"
        )
    relative = []
    for index, (image, heatmap) in enumerate(zip(images, heatmaps)):
        heat = checked_heat(f"heatmaps[{index}]", heatmap, np.shape(image)[:2])
        if heat.min() < 0 or heat.max() == 0:
            raise ValueError(
                f"Expected `heatmaps[{index}]` to be attention: not negative, not all zero. "
                f"Received: values from {heat.min()} to {heat.max()}"
            )
        relative.append(heat / heat.mean())

    columns = min(columns, count)
    rows = -(-count // columns)
    figure = new_figure(1.9 * columns + 1.0, 2.45 * rows)
    figure.get_layout_engine().set(h_pad=0.08)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for index, axes in enumerate(panels[:count]):
        image, heat = images[index], relative[index]
        highest = max(heat.max(), LEAST_PEAK)
        overlay = attention_overlay(image, heat, highest=highest, lowest=lowest)
        axes.imshow(overlay, interpolation="nearest")
        without_ticks(axes)
        axes.set_title(titles[index], fontsize=9)
        axes.set_xlabel(f"peak {heat.max():.1f} x mean", fontsize=8)
        if boxes is not None and boxes[index] is not None:
            outline_boxes(axes, boxes[index], np.shape(image), f"boxes[{index}]")
    for axes in panels[count:]:
        axes.remove()
    attention_bar(figure, list(panels[:count]), lowest, heat_name)
    if boxes is not None:
        box_legend(figure)
    return figure


def draw_tags(
    image: np.ndarray,
    heatmaps: np.ndarray | Sequence[np.ndarray],
    titles: Sequence[str],
    regions: np.ndarray | Sequence[np.ndarray | None] | None = None,
    title: str = "",
    columns: int = 4,
) -> "Figure":
    """Draws one image, and beside it once for each tag, under the attention of the tag.

    The red of a panel is as of `draw_attention` with `lowest=1.0`: attention above the mean.

    Args:
        image: `(H, W, 3)` with values from 0 to 255.
        heatmaps: K heat maps `(H, W)`, not negative. One of zeros leaves the image as it is.
        titles: K strings, such as the tag and its probability. Long ones are cut.
        regions: K entries, each `None` or a box `(4,)` to outline, as of `draw_attention`.
            Defaults to `None`: no outlines.
        title: String above the plain image. Defaults to `""`.
        columns: Panels in a row, at most. Defaults to `4`.

    Returns:
        `matplotlib.figure.Figure` with K + 1 axes, the plain image first, and, if K is not 0,
        the colour bar.

    Raises:
        ValueError: Shapes or numbers of entries do not match.
    """
    count = len(heatmaps)
    regions = [None] * count if regions is None else regions
    if len(titles) != count or len(regions) != count or columns < 1:
        raise ValueError(
            "Expected one title and one region for each heat map, and at least one column. "
            f"Received: {count} heat maps, {len(titles)} titles, {len(regions)} regions, "
            f"columns={columns!r}"
        )
    pixels = checked_pixels("image", image)
    height, width = pixels.shape[:2]
    side = 2.3 / max(height, width)
    columns = min(columns, count + 1)
    rows = -(-(count + 1) // columns)
    panel = max(1.2, side * width) + 0.1, max(0.4, side * height) + 0.5
    figure = new_figure(panel[0] * columns + (1.1 if count else 0), max(panel[1] * rows + 0.1, 1.7))
    figure.get_layout_engine().set(h_pad=0.08)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    panels[0].imshow(pixels, interpolation="nearest")
    set_title(panels[0], title)
    panels[0].set_xlabel("no tag" if count == 0 else " ", fontsize=8)
    for index, axes in enumerate(panels[1 : count + 1]):
        heat = checked_heat(f"heatmaps[{index}]", heatmaps[index], (height, width))
        if heat.min() < 0:
            raise ValueError(
                f"Expected `heatmaps[{index}]` to be attention: not negative. Received: values "
                f"from {heat.min()}"
            )
        heat = heat / (heat.mean() or 1.0)
        highest = max(heat.max(), LEAST_PEAK)
        overlay = attention_overlay(image, heat, highest=highest, lowest=1.0)
        axes.imshow(overlay, interpolation="nearest")
        set_title(axes, titles[index])
        axes.set_xlabel(f"peak {heat.max():.1f} x mean", fontsize=8)
        if regions[index] is not None:
            outline_boxes(axes, regions[index], pixels.shape, f"regions[{index}]")
    for axes in panels:
        without_ticks(axes)
    for axes in panels[count + 1 :]:
        axes.remove()
    if count:
        attention_bar(figure, list(panels[: count + 1]), lowest=1.0)
    if any(region is not None for region in regions):
        box_legend(figure, "where the attention is at least half of its peak")
    return figure
