"""Pictures of tagged images: each under the attention of its tags."""

import collections
import os
import re

import numpy as np

from keras_patchpu.datasets.read_image import read_image
from keras_patchpu.utils.whole_files import whole_file
from keras_patchpu.visualize import draw_tags

_OVERLAY_TAGS = 6
_OVERLAY_SIDE = 480


def picture_names(names):
    """A file name for each path: no folders, all different whatever the case, not too long."""
    taken, pictures = collections.Counter(), []
    for name in names:
        flat = re.sub(r"[^\w.-]+", "_", name).strip("._")[-60:] or "image"
        while True:
            taken[flat.lower()] += 1
            number = taken[flat.lower()]
            if number == 1:
                break
            flat = f"{flat}-{number}"
        pictures.append(f"{flat}.png")
    return pictures


def write_overlay(path, found, tagger):

    height, width = found.size
    ratio = min(1.0, _OVERLAY_SIDE / max(found.size))
    height, width = max(1, round(height * ratio)), max(1, round(width * ratio))
    image = read_image(found.name, size=(height, width), max_pixels=tagger.max_pixels)
    tags = found.tags[:_OVERLAY_TAGS]
    scores = dict(zip(tagger.label_names, found.scores))
    figure = draw_tags(
        image,
        [_resized(found.heatmaps[tag], (height, width)) for tag in tags],
        [f"{tag} {scores[tag]:.2f}" for tag in tags],
        [
            np.divide(found.regions[tag], [*found.size] * 2) if tag in found.regions else None
            for tag in tags
        ],
        title=os.path.basename(found.name),
    )
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _resized(heat, size):
    """A heat map at another size, each pixel the one at its place."""
    rows, columns = (np.arange(wanted) * given // wanted for wanted, given in zip(size, heat.shape))
    return heat[rows][:, columns]
