"""What is in one's own images, before a training."""

import hashlib
import io
import pathlib
import warnings

import numpy as np
from PIL import Image

from keras_patchpu.datasets.read_image import FORMATS, ImageError, read_image
from keras_patchpu.utils.progress_bar import progress_bar
from keras_patchpu.utils.read_ahead import read_ahead

_AHEAD = 256  # images; of one that was read a digest and its size are kept


def inspect_files(
    files,
    validation=None,
    image_size=640,
    patch_size=64,
    max_pixels=100_000_000,
    few=10,
    verbose=False,
):
    """Reads every image and counts.

    Args:
        files: `ImageFiles`, the training images or all.
        validation: `ImageFiles`. Defaults to `None`: none.
        image_size: Side in pixels that images will be resized to. Defaults to `640`.
        patch_size: Side of a patch in pixels. Defaults to `64`.
        max_pixels: As of `read_image`. Defaults to 100 million.
        few: Labels present in fewer training images are named. Defaults to `10`.
        verbose: Whether to show on stderr how far it is. Defaults to `False`.

    Returns:
        Dict of

        - `images`, `train`, `validation`: numbers of images;
        - `labels`: a dict for each label, the most frequent first: its `name` and the
          numbers of images where it is known `present`, `absent` and `unknown`, and
          present in `train` and in `validation`;
        - `labels_with_few`, `labels_not_in_validation`: names of labels;
        - `none`, `one`, `several`: numbers of images with so many labels known present;
        - `unreadable`: dicts of `name` and `reason`;
        - `duplicates`: for images of the same bytes, dicts of `names`, `labels_differ` and
          `in_both_splits`;
        - `sizes`: `(height, width)` of the `smallest`, `median` and `largest` image by
          pixels, upright, or `None` if no image can be read;
        - `smaller_than_patch`: names of images with a side below `patch_size`, and
          `smaller_than_image`: number of those with a side below `image_size`;
        - `modes`: Pillow's colour modes and their numbers of images;
        - `image_size`, `patch_size`, `few`: the arguments.
    """
    parts = [files] if validation is None else [files, validation]
    names = [name for part in parts for name in part.names]
    known = np.concatenate([part.labels for part in parts])
    in_train = np.arange(len(names)) < len(files)
    looks = _look_at_all(parts, max_pixels, verbose)

    labels = [
        {
            "name": name,
            "present": int((column == 1).sum()),
            "absent": int((column == -1).sum()),
            "unknown": int((column == 0).sum()),
            "train": int((column[in_train] == 1).sum()),
            "validation": int((column[~in_train] == 1).sum()),
        }
        for name, column in zip(files.label_names, known.T)
    ]
    labels.sort(key=lambda entry: (-entry["present"], entry["name"]))
    num_present = (known == 1).sum(axis=1)

    same = {}
    for index, look in enumerate(looks):
        if "digest" in look:
            same.setdefault(look["digest"], []).append(index)
    duplicates = [
        {
            "names": [names[index] for index in group],
            "labels_differ": bool((known[group] != known[group[0]]).any()),
            "in_both_splits": len(set(in_train[group].tolist())) == 2,
        }
        for group in same.values()
        if len(group) > 1
    ]
    read = [index for index, look in enumerate(looks) if "size" in look]
    sizes = [looks[index]["size"] for index in read]
    by_pixels = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    modes = {}
    for index in read:
        modes[looks[index]["mode"]] = modes.get(looks[index]["mode"], 0) + 1
    return {
        "images": len(names),
        "train": len(files),
        "validation": 0 if validation is None else len(validation),
        "labels": labels,
        "labels_with_few": [entry["name"] for entry in labels if entry["train"] < few],
        "labels_not_in_validation": [
            entry["name"] for entry in labels if validation is not None and not entry["validation"]
        ],
        "several": int((num_present > 1).sum()),
        "one": int((num_present == 1).sum()),
        "none": int((num_present == 0).sum()),
        "unreadable": [
            {"name": name, "reason": look["reason"]}
            for name, look in zip(names, looks)
            if "reason" in look
        ],
        "duplicates": duplicates,
        "sizes": None
        if not sizes
        else {
            "smallest": by_pixels[0],
            "median": by_pixels[(len(sizes) - 1) // 2],
            "largest": by_pixels[-1],
        },
        "patch_size": patch_size,
        "image_size": image_size,
        "few": few,
        "smaller_than_patch": [
            names[index] for index, size in zip(read, sizes) if min(size) < patch_size
        ],
        "smaller_than_image": sum(min(size) < image_size for size in sizes),
        "modes": dict(sorted(modes.items(), key=lambda item: (-item[1], item[0]))),
    }


def _look_at_all(parts, max_pixels, verbose):
    """A dict for each image, in parallel: reading and decoding release the interpreter's lock."""
    places = [(part, index) for part in parts for index in range(len(part))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about odd files that it reads all the same
        looks = read_ahead(lambda place: _look(*place, max_pixels), places, _AHEAD)
        return list(progress_bar(looks, len(places), verbose))


def _look(files, index, max_pixels):
    """`digest`, `size` and `mode` of an image, or the `reason` why it cannot be read."""
    name, source = files.names[index], files.sources[index]
    try:
        content = source if isinstance(source, bytes) else pathlib.Path(source).read_bytes()
    except OSError as error:
        return {"reason": error.strerror or str(error)}
    try:
        height, width, _ = read_image(content, name=name, max_pixels=max_pixels).shape
    except ImageError as error:
        return {"reason": str(error).removeprefix(f"{name}: ")}
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        mode = image.mode  # of the file, before it was converted
    digest = hashlib.sha256(content).hexdigest()
    return {"digest": digest, "size": (height, width), "mode": mode}
