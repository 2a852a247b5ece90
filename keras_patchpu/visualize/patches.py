"""The patches of an image, level by level."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_patchpu.visualize.style import (
    checked_pixels,
    new_figure,
    without_ticks,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_patches(
    image: np.ndarray, patches: np.ndarray, level_grids: Sequence[tuple[int, int]]
) -> "Figure":
    """Draws the patches of one image level by level, fine to coarse, beside the image.

    Every patch is drawn at the same size: a level further shows more of the image in one
    patch, with less detail.

    Args:
        image: `(H, W, 3)` with values from 0 to 255.
        patches: `(P, h, w, 3)`, the output of `PatchExtractor` for this image.
        level_grids: List of `(rows, columns)`, as `PatchGrid.level_grids` gives it.

    Returns:
        `matplotlib.figure.Figure` with one axes for the image and one for each level.

    Raises:
        ValueError: A shape does not match, or the grids do not hold P patches.

    Reference:
        Jouanneau et al., section 3.1, "Patch extraction".
    """
    pixels = checked_pixels("image", image)
    patches = np.asarray(patches, dtype="float64")
    counts = [rows * columns for rows, columns in level_grids]
    if patches.ndim != 4 or patches.shape[-1] != 3 or len(patches) != sum(counts):
        raise ValueError(
            f"Expected `patches` to have the shape ({sum(counts)}, h, w, 3), one patch for each "
            f"place of level_grids={list(level_grids)}. Received: shape {patches.shape}"
        )
    height, width = patches.shape[1:3]
    gap = max(2, round(0.12 * min(height, width)))
    levels = np.split(patches, np.cumsum(counts)[:-1])
    sheets = [_sheet(level, grid, gap) for level, grid in zip(levels, level_grids)]

    # White beside a narrow level leaves room for its title; all patches keep one size.
    narrowest = sheets[0].shape[1] // 5
    for index, sheet in enumerate(sheets):
        missing = max(0, narrowest - sheet.shape[1])
        sheets[index] = np.pad(sheet, [(0, 0), (0, missing), (0, 0)], constant_values=1.0)
    widths = [sheets[0].shape[1], *(sheet.shape[1] for sheet in sheets)]
    tallest = max(sheet.shape[0] for sheet in sheets)
    figure_width = 10.0
    figure = new_figure(figure_width, 0.9 * figure_width * tallest / sum(widths) + 0.9)
    panels = figure.subplots(
        1, len(sheets) + 1, squeeze=False, gridspec_kw={"width_ratios": widths}
    ).ravel()
    panels[0].imshow(pixels, interpolation="nearest")
    panels[0].set_title(
        f"image\n{pixels.shape[0]} x {pixels.shape[1]} pixels", fontsize=9, loc="left"
    )
    for index, (axes, sheet, (rows, columns)) in enumerate(zip(panels[1:], sheets, level_grids)):
        axes.imshow(sheet, interpolation="nearest")
        axes.set_title(f"level {index}\n{rows} x {columns}", fontsize=9, loc="left")
        for spine in axes.spines.values():
            spine.set_visible(False)
    for axes in panels:
        without_ticks(axes)
        axes.set_anchor("NW")
    figure.supxlabel(f"every patch has {height} x {width} pixels", fontsize=9)
    return figure


def _sheet(patches, grid, gap):
    """Patches of one level on white, in rows, with gaps: float64 from 0 to 1."""
    (rows, columns), (height, width) = grid, patches.shape[1:3]
    sheet = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 3))
    for index, patch in enumerate(patches):
        row, column = divmod(index, columns)
        top, left = row * (height + gap), column * (width + gap)
        sheet[top : top + height, left : left + width] = np.clip(patch / 255.0, 0.0, 1.0)
    return sheet
