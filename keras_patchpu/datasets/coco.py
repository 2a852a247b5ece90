"""COCO 2014, from its own folder or from TensorFlow Datasets."""

import contextlib
import io
import os
from pathlib import Path

import numpy as np

from keras_patchpu.datasets.image_files import ImageFiles
from keras_patchpu.datasets.tfds_images import (
    as_boxes,
    check_count,
    images_of_records,
    label_domain,
    tfds_records,
)
from keras_patchpu.utils.validation import check_one_of

_COUNTS = {"train": 82081, "validation": 40137}
_MEAN_LABELS = {"train": 2.92, "validation": None}
_URL = "http://images.cocodataset.org/annotations/annotations_trainval2014.zip"
_ADVICE = """\
Two ways to get the data by hand:
1. Fetch train2014.zip and val2014.zip (20 GB, from images.cocodataset.org/zips) and
   annotations_trainval2014.zip (from images.cocodataset.org/annotations), unpack all three into
   one folder, which then holds train2014, val2014 and annotations, and go on with
       python train.py --dataset coco --data-dir .../that_folder
2. Put train2014.zip, val2014.zip, annotations_trainval2014.zip and also test2014.zip,
   test2015.zip, image_info_test2014.zip, image_info_test2015.zip into {manual_dir}
   and start the same command again: TensorFlow Datasets takes them from there."""


def load_coco(
    split: str, data_dir: str | os.PathLike | None = None, check_counts: bool = True
) -> ImageFiles:
    """COCO 2014 with its true annotation.

    A label is present if an object of it is annotated, crowds included. Images without any
    annotation are left out, as in the code of Cole et al. Labels are in the order of the
    numbers of the categories.

    Args:
        split: `"train"` or `"validation"`.
        data_dir: Folder with `train2014`, `val2014` and
            `annotations/instances_{train,val}2014.json`; read with pycocotools, which has to
            be installed. Defaults to `None`: `coco/2014` of TensorFlow Datasets, downloaded at
            the first call to its folder (environment variable `TFDS_DATA_DIR`).
        check_counts: Whether to insist on the 82,081 or 40,137 images of the whole set.
            Defaults to `True`.

    Returns:
        `ImageFiles`, sorted by name; every label is known. Images are read when needed.

    Raises:
        ValueError: A file is missing or broken, the number of images is another,
            pycocotools is missing, or the download failed.
    """
    check_one_of("split", split, tuple(_COUNTS))
    if data_dir is None:
        images, origin = _from_tfds(split), "coco/2014 of TensorFlow Datasets"
    else:
        images, origin = _from_folder(Path(data_dir).expanduser(), split), str(data_dir)
    if check_counts:
        what = f"COCO 2014 {split} ({origin})"
        check_count(len(images), _COUNTS[split], images.labels, _MEAN_LABELS[split], what)
    return images


def _from_folder(folder, split):
    part = "train2014" if split == "train" else "val2014"
    path = folder / "annotations" / f"instances_{part}.json"
    for needed, there in ((path, path.is_file()), (folder / part, (folder / part).is_dir())):
        if not there:
            raise ValueError(
                "Expected `data_dir` to hold train2014, val2014 and "
                "annotations/instances_{train,val}2014.json. "
                f"Received: {folder}, where {needed} is missing"
            )
    coco = _read_annotations(path)
    existing = {image.name for image in (folder / part).iterdir()}
    try:
        categories = sorted(coco.cats.values(), key=lambda category: category["id"])
        index_of = {category["id"]: index for index, category in enumerate(categories)}
        names, box_labels, boxes = [], [], []
        for image in sorted(coco.imgs.values(), key=lambda image: image["file_name"]):
            objects = coco.imgToAnns.get(image["id"], [])
            if not objects:
                continue
            names.append(image["file_name"])
            box_labels.append(
                np.array([index_of[item["category_id"]] for item in objects], dtype="int64")
            )
            corners = [_corners(*item["bbox"]) for item in objects]
            size = (image["height"], image["width"]) * 2
            boxes.append(as_boxes(np.array(corners, dtype="float64") / size))
        label_names = tuple(category["name"] for category in categories)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected images (id, file_name, height, width), categories (id, name) and "
            f"annotations (image_id, category_id, bbox of 4 numbers). {type(error).__name__}: "
            f"{error}"
        ) from error
    for name in names:
        if name not in existing:
            raise ValueError(
                f"Expected the image {folder / part / name}, which {path} names. It is missing"
            )
    return ImageFiles(
        names=names,
        sources=[str(folder / part / name) for name in names],
        labels=label_domain(box_labels, len(label_names)),
        label_names=label_names,
        box_labels=box_labels,
        boxes=boxes,
    )


def _corners(left, top, width, height):
    return top, left, top + height, left + width


def _read_annotations(path):
    try:
        from pycocotools.coco import COCO
    except ImportError as error:
        raise ValueError(
            "The annotations of COCO are read with pycocotools, which is not installed: "
            "pip install pycocotools"
        ) from error
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints how far it is
            return COCO(str(path))
    except Exception as error:  # it asserts, and indexes what it has not looked at
        raise ValueError(
            f"{path}: expected the annotations of COCO as JSON. {type(error).__name__}: {error}"
        ) from error


def _from_tfds(split):
    info, records = tfds_records("coco/2014", split, _URL, 7, _ADVICE)
    label_names = tuple(info.features["objects"]["label"].names)
    return images_of_records(records, label_names)
