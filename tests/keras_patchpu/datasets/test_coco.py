"""COCO 2014, read from its folder and from TensorFlow Datasets."""

import json
import sys

import numpy as np
import pytest
import requests
import tensorflow_datasets
from tiny_data import write_coco

from keras_patchpu.datasets import tfds_images
from keras_patchpu.datasets.coco import load_coco

pytestmark = pytest.mark.no_backend

PERSON, CAR, STOP_SIGN, DOG, TOOTHBRUSH = 0, 2, 11, 16, 79


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("pycocotools")
    return write_coco(tmp_path_factory.mktemp("coco"))


def test_labels_written_out(folder, capsys):
    images = load_coco("train", folder, check_counts=False)
    assert images.names == [f"COCO_train2014_{9 + 100 * i:012d}.jpg" for i in range(7)]
    assert images.labels.shape == (7, 80)
    assert images.labels.dtype == np.int8
    assert images.fully_annotated
    # The dog of the fourth image is followed by a crowd of toothbrushes.
    assert [labels.tolist() for labels in images.box_labels] == [
        [PERSON],
        [CAR, STOP_SIGN],
        [STOP_SIGN],
        [DOG, TOOTHBRUSH],
        [TOOTHBRUSH],
        [PERSON, CAR],
        [CAR],
    ]
    for row, present in zip(images.labels, images.box_labels):
        np.testing.assert_array_equal(np.flatnonzero(row == 1), present)
    for label, name in [(PERSON, "person"), (STOP_SIGN, "stop sign"), (TOOTHBRUSH, "toothbrush")]:
        assert images.label_names[label] == name
    assert capsys.readouterr().out == ""
    assert len(load_coco("validation", str(folder), check_counts=False)) == 3


def test_box_is_what_the_annotation_says(folder):
    images = load_coco("train", folder, check_counts=False)
    content = json.loads((folder / "annotations" / "instances_train2014.json").read_text())
    for image, number in enumerate((9, 109)):
        found = [a["bbox"] for a in content["annotations"] if a["image_id"] == number]
        expected = [[y / 50, x / 60, (y + h) / 50, (x + w) / 60] for x, y, w, h in found]
        np.testing.assert_allclose(images.boxes[image], expected, rtol=1e-6)
        assert images.boxes[image].dtype == np.float32


def test_same_from_tensorflow_datasets(folder, tmp_path, monkeypatch):
    for name in ("test2014", "test2015"):  # TFDS prepares the test splits as well
        path = folder / "annotations" / f"image_info_{name}.json"
        content = json.loads((folder / "annotations" / "instances_val2014.json").read_text())
        content["images"] = content["images"][:1]
        (folder / name).mkdir(exist_ok=True)
        image = content["images"][0]["file_name"]
        (folder / name / image).write_bytes((folder / "val2014" / image).read_bytes())
        path.write_text(json.dumps(content))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(tfds_images, "_check_reachable", lambda url: None)
    monkeypatch.setattr(
        tensorflow_datasets.download.DownloadManager,
        "download_and_extract",
        lambda manager, urls: {name: str(folder) for name in urls},
    )
    for split in ("train", "validation"):
        expected = load_coco(split, folder, check_counts=False)
        images = load_coco(split, check_counts=False)
        assert images.names == expected.names
        assert images.label_names == expected.label_names
        np.testing.assert_array_equal(images.labels, expected.labels)
        for name in ("box_labels", "boxes"):
            for found, wanted in zip(getattr(images, name), getattr(expected, name)):
                np.testing.assert_array_equal(found, wanted)
        for index in reversed(range(len(images))):
            with open(expected.sources[index], "rb") as file:
                assert images.sources[index] == file.read()


def test_count_is_checked(folder):
    with pytest.raises(ValueError, match=r"82,081 images.*Received: 7.*check_counts"):
        load_coco("train", folder)
    with pytest.raises(ValueError, match=r"40,137 images.*Received: 3"):
        load_coco("validation", folder)


def test_other_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`split` to be one of.*Received: split='test'"):
        load_coco("test", tmp_path)


def test_no_network_says_what_to_do(tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(requests, "head", no_network)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(ValueError, match="no route") as caught:
        load_coco("train")
    for part in (
        "train2014.zip",
        "val2014.zip",
        "annotations_trainval2014.zip",
        "python train.py --dataset coco --data-dir",
        str(tmp_path / "data" / "downloads" / "manual"),
    ):
        assert part in str(caught.value)


def test_without_pycocotools(tmp_path, monkeypatch):
    folder = write_coco(tmp_path)
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(ValueError, match="pip install pycocotools"):
        load_coco("train", folder, check_counts=False)


@pytest.mark.parametrize(
    "content, match",
    [
        ("{", r"instances_train2014\.json: expected the annotations of COCO as JSON"),
        ("[]", r"instances_train2014\.json: expected the annotations of COCO as JSON"),
        (
            '{"images": [{"id": 1}], "annotations": [], "categories": []}',
            r"instances_train2014\.json: expected images .*'file_name'",
        ),
    ],
)
def test_broken_annotations_are_named(tmp_path, content, match):
    pytest.importorskip("pycocotools")
    folder = write_coco(tmp_path)
    (folder / "annotations" / "instances_train2014.json").write_text(content)
    with pytest.raises(ValueError, match=match):
        load_coco("train", folder, check_counts=False)


def test_missing_files_are_named(tmp_path):
    pytest.importorskip("pycocotools")
    with pytest.raises(ValueError, match=r"where .*instances_train2014\.json is missing"):
        load_coco("train", tmp_path)
    folder = write_coco(tmp_path)
    image = folder / "train2014" / "COCO_train2014_000000000109.jpg"
    image.unlink()
    with pytest.raises(ValueError, match=r"image .*000000000109\.jpg, which .*json names"):
        load_coco("train", folder, check_counts=False)
    (folder / "annotations" / "instances_val2014.json").unlink()
    with pytest.raises(ValueError, match=r"where .*instances_val2014\.json is missing"):
        load_coco("validation", folder)
