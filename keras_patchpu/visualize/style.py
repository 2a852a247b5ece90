"""Colours and parts that the pictures share."""

import numpy as np

RED = (1.0, 0.05, 0.05)
# At the largest attention the image still shines through.
OPACITY = 0.7
# Multiple of the mean that the strongest red of a panel stands for, or more.
LEAST_PEAK = 2.0
# Colours that people with red-green colour blindness tell apart (Okabe and Ito).
BLUE, ORANGE, GREY, DARK = "#0072b2", "#e69f00", "#9a9a9a", "#222222"
# Hatched, so that nobody takes it for a bar.
BAND = {"facecolor": "#d9e9f3", "edgecolor": BLUE, "hatch": "////", "linewidth": 0, "zorder": 0}
BOX_COLOUR = "#00e5ff"


def new_figure(width, height):
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def checked_pixels(name, image):
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


def checked_heat(name, heatmap, image_size):
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


def without_ticks(axes):
    axes.set_xticks([])
    axes.set_yticks([])


def outline_boxes(axes, boxes, image_shape, name):
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
        for colour, line_width in [("black", 2.6), (BOX_COLOUR, 1.2)]:
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


def attention_bar(figure, panels, lowest, heat_name="attention"):
    """The colour bar of `draw_attention`: the colours as they are on a white image."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    strongest = tuple((1.0 - OPACITY) + OPACITY * channel for channel in RED)
    colours = LinearSegmentedColormap.from_list("attention", [(1.0, 1.0, 1.0), strongest])
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), colours), ax=panels, shrink=0.8, aspect=18, pad=0.02
    )
    low = "0" if lowest == 0 else "mean\nor less" if lowest == 1 else f"{lowest:g} x mean\nor less"
    high = f"peak of\nthe image\n(at least\n{LEAST_PEAK:g} x mean)"
    bar.set_ticks([0, 1], labels=[low, high], fontsize=8)
    bar.ax.yaxis.set_label_position("left")
    bar.set_label(f"{heat_name} of the label", fontsize=8)


def set_title(axes, title, longest=30):
    """A title that is taken as it is, its middle cut out if it is long."""
    if len(title) > longest:
        title = f"{title[: longest // 2 - 1]}…{title[-(longest // 2) :]}"
    axes.set_title(title, fontsize=9, parse_math=False)


def box_legend(figure, text="true place of the label"):
    from matplotlib.lines import Line2D

    handle = Line2D([], [], color=BOX_COLOUR, linewidth=2, label=text)
    figure.legend(handles=[handle], loc="outside lower center", fontsize=8, frameon=False)
