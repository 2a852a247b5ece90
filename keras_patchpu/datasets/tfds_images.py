"""What the readers of VOC and COCO share: records of TensorFlow Datasets, and counts."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import requests  # comes with TFDS, follows the proxies of the environment

from keras_patchpu.datasets.image_files import ImageFiles

_TIMEOUT = 15  # seconds for the server to answer; TFDS itself tries for minutes


class EncodedImages(Sequence):
    """Encoded bytes of images, fetched from the records one by one.

    Args:
        records: Random access to examples with an undecoded `"image"`.
        order: Which record is which image.
    """

    def __init__(self, records, order):
        self.records, self.order = records, order

    def __len__(self):
        return len(self.order)

    def __getitem__(self, index):
        return bytes(self.records[int(self.order[index])]["image"])


def tfds_records(name, split, url, num_archives, advice):
    """Records of a set of TensorFlow Datasets, downloaded and prepared at the first call.

    Args:
        name: Name with its configuration, such as `"voc/2012"`.
        split: `"train"` or `"validation"`.
        url: What is asked for to see whether the server can be reached.
        num_archives: Number of files that TFDS downloads.
        advice: What a message says about getting the data in another way. May contain
            `{manual_dir}`.

    Returns:
        `(info, records)`: the `tfds.core.DatasetInfo`, and a sequence of examples whose
        `"image"` is encoded.

    Raises:
        ValueError: The data could not be downloaded or prepared, for whatever reason.
    """
    root = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    try:
        import tensorflow_datasets as tfds  # slow, and only these two sets need it

        # Of the formats of TFDS array_record gives any image without reading those before.
        builder = tfds.builder(name, data_dir=root, file_format="array_record")
        if not builder.is_prepared() and _num_archives(root) < num_archives:
            _check_reachable(url)
        builder.download_and_prepare()
        decoders = {"image": tfds.decode.SkipDecoding()}
        return builder.info, builder.as_data_source(split, decoders=decoders)
    except Exception as error:  # of the network, the disk, TFDS, its optional packages
        advice = advice.format(manual_dir=root / "downloads" / "manual")
        raise ValueError(
            f"TensorFlow Datasets could not provide {name!r} in {root}: "
            f"{type(error).__name__}: {error}\n{advice}"
        ) from error


def images_of_records(records, label_names, leave_out=None):
    """`ImageFiles` of the records that have an object, sorted by name.

    Args:
        records: As of `tfds_records`.
        label_names: L strings.
        leave_out: Name of the property of an object that does not count. Defaults to `None`:
            all count.
    """
    found = []
    for index, record in enumerate(records):
        objects = record["objects"]
        labels = np.asarray(objects["label"], dtype="int64")
        counts = np.ones(len(labels), bool)
        if leave_out is not None:
            counts = ~np.asarray(objects[leave_out], dtype=bool)
        if counts.any():
            name = record["image/filename"]
            name = name.decode() if isinstance(name, bytes) else str(name)
            boxes = as_boxes(np.asarray(objects["bbox"])[counts])
            found.append((name, index, labels[counts], boxes))
    found.sort(key=lambda image: image[0])
    names, order, box_labels, boxes = zip(*found) if found else ((),) * 4
    return ImageFiles(
        names=list(names),
        sources=EncodedImages(records, list(order)),
        labels=label_domain(box_labels, len(label_names)),
        label_names=label_names,
        box_labels=list(box_labels),
        boxes=list(boxes),
    )


def check_count(count, expected, labels, mean, what):
    """Compares a set with its published numbers.

    Args:
        count: Number of images.
        expected: Published number of images.
        labels: int8 `(N, L)`, +1 present.
        mean: Published mean number of labels an image, or `None`.
        what: What the set is and where it came from, for messages.

    Raises:
        ValueError: The number of images is another.
    """
    if count != expected:
        raise ValueError(
            f"Expected {expected:,} images with a label in {what}, the number that published "
            f"results use. Received: {count:,}. Get the whole set, or pass check_counts=False "
            "to use what there is"
        )
    found = float((labels > 0).sum(axis=1).mean())
    if mean is not None and abs(found - mean) > 0.02:
        warnings.warn(
            f"{what} has {found:.2f} labels an image, the paper says {mean}", stacklevel=3
        )


def label_domain(label_lists, num_labels):
    """int8 `(N, num_labels)`: +1 for the labels of each list, -1 for all others."""
    labels = np.full((len(label_lists), num_labels), -1, dtype="int8")
    for row, present in zip(labels, label_lists):
        row[np.asarray(present, dtype=int)] = 1
    return labels


def as_boxes(boxes):
    """float32 `(K, 4)`, also for no box at all; inside the image."""
    return np.clip(np.asarray(boxes, dtype="float32").reshape(-1, 4), 0.0, 1.0)


def _num_archives(root):
    """Number of archives that were downloaded, by TFDS or by hand."""
    folders = [root / "downloads" / "manual", *(root / "downloads").glob("*")]
    files = {path for folder in folders for path in folder.glob("*") if path.is_file()}
    return sum(path.suffix in (".tar", ".zip") for path in files)


def _check_reachable(url):
    """Raises an exception of the network unless the server answers, whatever it says."""
    requests.head(url, timeout=_TIMEOUT)
