"""Samples of one's own images, a row a label."""

import textwrap

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from keras_patchpu.datasets.read_image import read_image
from patchpu.inspection.report import shortened

_ROWS, _COLUMNS = 8, 5


def draw_samples(files, leave_out=(), max_pixels=100_000_000, seed=0):
    """Draws some images of each label, a row a label, the 8 most frequent labels.

    Args:
        files: `ImageFiles`.
        leave_out: Names of images that are not drawn.
        max_pixels: As of `read_image`. Defaults to 100 million.
        seed: Integer seed of the choice. Defaults to `0`.

    Returns:
        `matplotlib.figure.Figure` with 5 axes a row, or `None` if no image of a known
        label is left.
    """
    readable = np.array([name not in leave_out for name in files.names])
    present = (files.labels == 1) & readable[:, None]
    labels = [label for label in np.argsort(-present.sum(axis=0), kind="stable")[:_ROWS]]
    labels = [label for label in labels if present[:, label].any()]
    if not labels:
        return None
    figure = Figure(figsize=(11.0, 1.85 * len(labels)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.05, h_pad=0.05)
    panels = figure.subplots(len(labels), _COLUMNS, squeeze=False)
    random = np.random.default_rng(seed)
    for row, label in zip(panels, labels):
        all_of_label = np.flatnonzero(present[:, label])
        chosen = random.permutation(all_of_label)[:_COLUMNS]
        name = textwrap.fill(files.label_names[label], 16, max_lines=3, placeholder=" ...")
        row[0].set_ylabel(
            f"{name}\n{len(all_of_label)} image{'s' if len(all_of_label) > 1 else ''}",
            rotation=0,
            horizontalalignment="right",
            verticalalignment="center",
            labelpad=10,
            fontsize=11,
            parse_math=False,  # a name may have dollars
        )
        for axes in row:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_box_aspect(0.75)
            axes.spines[:].set_visible(False)
        for axes, index in zip(row, chosen):
            axes.imshow(_thumbnail(files, index, max_pixels), interpolation="antialiased")
            others = [
                files.label_names[other]
                for other in np.flatnonzero(files.labels[index] == 1)
                if other != label
            ]
            title = _end(files.names[index], 25)
            if others:
                title += "\n" + shortened(f"also {', '.join(others)}", 25)
            axes.set_title(title, fontsize=8.5, parse_math=False)
    return figure


def _thumbnail(files, index, max_pixels):
    image = read_image(files.sources[index], name=files.names[index], max_pixels=max_pixels)
    image = Image.fromarray(image)
    image.thumbnail((320, 320))
    return np.asarray(image)


def _end(name, length):
    """The last part of a path, cut at the front: file names differ at their ends."""
    name = name.rsplit("/", 1)[-1]
    return name if len(name) <= length else f"...{name[3 - length :]}"
