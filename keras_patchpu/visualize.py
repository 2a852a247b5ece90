"""Pictures of what the model sees, pools and learns, as matplotlib figures.

Every `draw_*` function returns a `matplotlib.figure.Figure`: show it in a notebook, or
write it with `figure.savefig(path)`. No window is opened and `pyplot` is not used, so
nothing has to be closed. matplotlib is imported on the first call.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RED = (1.0, 0.05, 0.05)
# At the largest attention the image still shines through.
_OPACITY = 0.7
# Multiple of the mean that the strongest red of a panel stands for, or more.
_LEAST_PEAK = 2.0
# Colours that people with red-green colour blindness tell apart (Okabe and Ito).
_BLUE, _ORANGE, _GREY, _DARK = "#0072b2", "#e69f00", "#9a9a9a", "#222222"
# Hatched, so that nobody takes it for a bar.
_BAND = {"facecolor": "#d9e9f3", "edgecolor": _BLUE, "hatch": "////", "linewidth": 0, "zorder": 0}
_BOX_COLOUR = "#00e5ff"


def attention_overlay(
    image: np.ndarray,
    heatmap: np.ndarray,
    highest: float | None = None,
    lowest: float = 0.0,
    opacity: float = _OPACITY,
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
    pixels = _pixels("image", image)
    heat = _heat("heatmap", heatmap, pixels.shape[:2])
    if not 0 <= opacity <= 1:
        raise ValueError(f"Expected `opacity` to be from 0 to 1. Received: opacity={opacity!r}")
    highest = heat.max() if highest is None else highest
    if highest <= lowest:
        return pixels
    strength = opacity * np.clip((heat - lowest) / (highest - lowest), 0.0, 1.0)[..., None]
    return (1.0 - strength) * pixels + strength * np.array(_RED)


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
        heat = _heat(f"heatmaps[{index}]", heatmap, np.shape(image)[:2])
        if heat.min() < 0 or heat.max() == 0:
            raise ValueError(
                f"Expected `heatmaps[{index}]` to be attention: not negative, not all zero. "
                f"Received: values from {heat.min()} to {heat.max()}"
            )
        relative.append(heat / heat.mean())

    columns = min(columns, count)
    rows = -(-count // columns)
    figure = _figure(1.9 * columns + 1.0, 2.45 * rows)
    figure.get_layout_engine().set(h_pad=0.08)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for index, axes in enumerate(panels[:count]):
        image, heat = images[index], relative[index]
        highest = max(heat.max(), _LEAST_PEAK)
        overlay = attention_overlay(image, heat, highest=highest, lowest=lowest)
        axes.imshow(overlay, interpolation="nearest")
        _bare(axes)
        axes.set_title(titles[index], fontsize=9)
        axes.set_xlabel(f"peak {heat.max():.1f} x mean", fontsize=8)
        if boxes is not None and boxes[index] is not None:
            _outline(axes, boxes[index], np.shape(image), f"boxes[{index}]")
    for axes in panels[count:]:
        axes.remove()
    _attention_bar(figure, list(panels[:count]), lowest, heat_name)
    if boxes is not None:
        _box_legend(figure)
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
    pixels = _pixels("image", image)
    height, width = pixels.shape[:2]
    side = 2.3 / max(height, width)
    columns = min(columns, count + 1)
    rows = -(-(count + 1) // columns)
    panel = max(1.2, side * width) + 0.1, max(0.4, side * height) + 0.5
    figure = _figure(panel[0] * columns + (1.1 if count else 0), max(panel[1] * rows + 0.1, 1.7))
    figure.get_layout_engine().set(h_pad=0.08)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    panels[0].imshow(pixels, interpolation="nearest")
    _titled(panels[0], title)
    panels[0].set_xlabel("no tag" if count == 0 else " ", fontsize=8)
    for index, axes in enumerate(panels[1 : count + 1]):
        heat = _heat(f"heatmaps[{index}]", heatmaps[index], (height, width))
        if heat.min() < 0:
            raise ValueError(
                f"Expected `heatmaps[{index}]` to be attention: not negative. Received: values "
                f"from {heat.min()}"
            )
        heat = heat / (heat.mean() or 1.0)
        highest = max(heat.max(), _LEAST_PEAK)
        overlay = attention_overlay(image, heat, highest=highest, lowest=1.0)
        axes.imshow(overlay, interpolation="nearest")
        _titled(axes, titles[index])
        axes.set_xlabel(f"peak {heat.max():.1f} x mean", fontsize=8)
        if regions[index] is not None:
            _outline(axes, regions[index], pixels.shape, f"regions[{index}]")
    for axes in panels:
        _bare(axes)
    for axes in panels[count + 1 :]:
        axes.remove()
    if count:
        _attention_bar(figure, list(panels[: count + 1]), lowest=1.0)
    if any(region is not None for region in regions):
        _box_legend(figure, "where the attention is at least half of its peak")
    return figure


def draw_patches(
    image: np.ndarray, patches: np.ndarray, level_grids: Sequence[tuple[int, int]]
) -> "Figure":
    """Draws the patches of one image level by level, fine to coarse, beside the image.

    Every patch is drawn at the same size: a level further shows more of the image in one
    patch, with less detail.

    Args:
        image: `(H, W, 3)` with values from 0 to 255.
        patches: `(P, h, w, 3)`, the output of `PatchExtractor` for this image.
        level_grids: List of `(rows, columns)`, as `PatchExtractor.level_grids` gives it.

    Returns:
        `matplotlib.figure.Figure` with one axes for the image and one for each level.

    Raises:
        ValueError: A shape does not match, or the grids do not hold P patches.

    Reference:
        Jouanneau et al., section 3.1, "Patch extraction".
    """
    pixels = _pixels("image", image)
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
    figure = _figure(figure_width, 0.9 * figure_width * tallest / sum(widths) + 0.9)
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
        _bare(axes)
        axes.set_anchor("NW")
    figure.supxlabel(f"every patch has {height} x {width} pixels", fontsize=9)
    return figure


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
    figure = _figure(max(6.0, 0.32 * num_labels + 1.5), 1.75 * count + 1.0)
    places = np.arange(num_labels)
    panels = figure.subplots(count, 1, squeeze=False, sharex=True).ravel()
    for row, axes in enumerate(panels):
        for place in np.flatnonzero(observed[row] > 0):
            axes.axvspan(place - 0.5, place + 0.5, **_BAND)
        hidden = (true[row] == 1) & (observed[row] == 0)
        absent = (true[row] == 0) & (observed[row] == 0)
        for chosen, colour in [(hidden, _ORANGE), (absent, _GREY), (observed[row] < 0, _DARK)]:
            axes.bar(places[chosen], weights[row, chosen], width=0.7, color=colour)
        axes.plot(
            places, probabilities[row], "o", markersize=5, color=_DARK, markeredgecolor="white"
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
        Patch(**_BAND, label="observed present (weight 0)"),
        Patch(color=_ORANGE, label="weight, present but not observed"),
        Patch(color=_GREY, label="weight, truly absent"),
    ]
    if (observed < 0).any():
        handles.append(Patch(color=_DARK, label="weight, observed absent"))
    handles.append(
        Line2D([], [], marker="o", linestyle="", color=_DARK, label="predicted probability")
    )
    figure.legend(handles=handles, loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    return figure


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

    figure = _figure(4.2 * len(groups), 2.9)
    for axes, (title, names) in zip(figure.subplots(1, len(groups), squeeze=False).ravel(), groups):
        for name, colour in zip(names, [_BLUE, _ORANGE, _DARK, _GREY] * len(names)):
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


# === Parts of the pictures ===


def _figure(width, height):
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _pixels(name, image):
    """An image as float64 from 0 to 1."""
    image = np.asarray(image, dtype="float64")
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(
            f"Expected `{name}` to have the shape (H, W, 3). Received: shape {image.shape}"
        )
    # Written so that NaN is refused.
    if not (image.min() >= 0 and image.max() <= 255):
        raise ValueError(
            f"Expected `{name}` to have values from 0 to 255. Received: values from "
            f"{image.min()} to {image.max()}"
        )
    return image / 255.0


def _heat(name, heatmap, image_size):
    """A heat map as finite float64 of the size of its image."""
    heat = np.asarray(heatmap, dtype="float64")
    if heat.shape != tuple(image_size):
        raise ValueError(
            f"Expected `{name}` to have the shape of its image, {tuple(image_size)}. "
            f"Received: shape {heat.shape}"
        )
    if not np.isfinite(heat).all():
        raise ValueError(f"Expected `{name}` to be finite. Received: infinite values or NaN")
    return heat


def _bare(axes):
    axes.set_xticks([])
    axes.set_yticks([])


def _outline(axes, boxes, image_shape, name):
    """Frames relative boxes; a dark line under the bright one stands out on any image."""
    from matplotlib.patches import Rectangle

    boxes = np.asarray(boxes, dtype="float64")
    if boxes.ndim not in (1, 2) or boxes.shape[-1] != 4:
        raise ValueError(
            f"Expected `{name}` to have the shape (4,) or (K, 4). Received: shape {boxes.shape}"
        )
    height, width = image_shape[:2]
    for y_min, x_min, y_max, x_max in boxes.reshape(-1, 4):
        if y_max <= y_min or x_max <= x_min:
            continue
        for colour, line_width in [("black", 2.6), (_BOX_COLOUR, 1.2)]:
            axes.add_patch(
                Rectangle(
                    # Pixel centres are the integers, so the image begins at -0.5.
                    (x_min * width - 0.5, y_min * height - 0.5),
                    (x_max - x_min) * width,
                    (y_max - y_min) * height,
                    fill=False,
                    edgecolor=colour,
                    linewidth=line_width,
                )
            )


def _attention_bar(figure, panels, lowest, heat_name="attention"):
    """The colour bar of `draw_attention`: the colours as they are on a white image."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    strongest = tuple((1.0 - _OPACITY) + _OPACITY * channel for channel in _RED)
    colours = LinearSegmentedColormap.from_list("attention", [(1.0, 1.0, 1.0), strongest])
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), colours), ax=panels, shrink=0.8, aspect=18, pad=0.02
    )
    low = "0" if lowest == 0 else "mean\nor less" if lowest == 1 else f"{lowest:g} x mean\nor less"
    high = f"peak of\nthe image\n(at least\n{_LEAST_PEAK:g} x mean)"
    bar.set_ticks([0, 1], labels=[low, high], fontsize=8)
    bar.ax.yaxis.set_label_position("left")
    bar.set_label(f"{heat_name} of the label", fontsize=8)


def _titled(axes, title, longest=30):
    """A title that is taken as it is, its middle cut out if it is long."""
    if len(title) > longest:
        title = f"{title[: longest // 2 - 1]}…{title[-(longest // 2) :]}"
    axes.set_title(title, fontsize=9, parse_math=False)


def _box_legend(figure, text="true place of the label"):
    from matplotlib.lines import Line2D

    handle = Line2D([], [], color=_BOX_COLOUR, linewidth=2, label=text)
    figure.legend(handles=[handle], loc="outside lower center", fontsize=8, frameon=False)


def _sheet(patches, grid, gap):
    """Patches of one level on white, in rows, with gaps: float64 from 0 to 1."""
    (rows, columns), (height, width) = grid, patches.shape[1:3]
    sheet = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 3))
    for index, patch in enumerate(patches):
        row, column = divmod(index, columns)
        top, left = row * (height + gap), column * (width + gap)
        sheet[top : top + height, left : left + width] = np.clip(patch / 255.0, 0.0, 1.0)
    return sheet
