"""VOC 2012, read from its folder and from TensorFlow Datasets."""

import numpy as np
import pytest
import requests
import tensorflow_datasets
from tiny_data import VOC_NAMES, write_voc

from keras_patchpu.datasets import tfds_images
from keras_patchpu.datasets.read_image import read_image
from keras_patchpu.datasets.voc import load_voc

pytestmark = pytest.mark.no_backend


@pytest.fixture(scope="module")
def devkit(tmp_path_factory):
    return write_voc(tmp_path_factory.mktemp("voc"))


def labels_of_lists(devkit, split, names):
    """The annotation of the lists a label, which the reader does not look at."""
    columns = []
    for label in VOC_NAMES:
        path = devkit / "VOC2012" / "ImageSets" / "Main" / f"{label}_{split}.txt"
        values = dict(line.split() for line in path.read_text().splitlines())
        columns.append([1 if values[name.removesuffix(".jpg")] == "1" else -1 for name in names])
    return np.array(columns).T


@pytest.mark.parametrize("split, short, count", [("train", "train", 7), ("validation", "val", 3)])
def test_labels_are_those_of_the_lists(devkit, split, short, count):
    images = load_voc(split, devkit, check_counts=False)
    assert len(images) == count  # the last has a difficult object only
    assert images.names == sorted(images.names)
    assert images.label_names == tuple(VOC_NAMES)
    assert images.labels.dtype == np.int8
    assert images.fully_annotated
    np.testing.assert_array_equal(images.labels, labels_of_lists(devkit, short, images.names))


def test_labels_written_out(devkit):
    images = load_voc("train", devkit, check_counts=False)
    aeroplane, car, dog, person = 0, 6, 11, 14
    present = [np.flatnonzero(row == 1).tolist() for row in images.labels]
    # Of the fourth image, a person, the aeroplane is difficult.
    assert present == [[aeroplane], [car, dog], [dog], [person], [aeroplane], [car, dog], [dog]]
    assert [labels.tolist() for labels in images.box_labels] == present
    assert images.names[0] == "2008_000001.jpg"


def test_boxes_frame_the_rectangles(devkit):
    images = load_voc("train", devkit, check_counts=False)
    assert [boxes.shape for boxes in images.boxes] == [(len(k), 4) for k in images.box_labels]
    for source, boxes in zip(images.sources, images.boxes):
        pixels = read_image(source).astype(int)
        colored = pixels.max(axis=-1) - pixels.min(axis=-1) > 60
        for box in boxes:
            assert box.dtype == np.float32
            top, left, bottom, right = np.round(box * [50, 60, 50, 60]).astype(int)
            # The upper corner counts from 1, as in TensorFlow Datasets.
            assert colored[top:bottom, left:right].mean() > 0.95
            outside = colored[max(top - 4, 0) : top - 3, left:right]
            assert outside.size == 0 or outside.mean() < 0.5


def test_box_is_what_the_annotation_says(tmp_path):
    devkit = write_voc(tmp_path, num_train=2, num_validation=2, size=(50, 80))
    path = devkit / "VOC2012" / "Annotations" / "2008_000001.xml"
    text = path.read_text()
    for tag, value in (("xmin", "21"), ("ymin", "6"), ("xmax", "40.5"), ("ymax", "50")):
        start, end = text.index(f"<{tag}>"), text.index(f"</{tag}>")
        text = f"{text[:start]}<{tag}>{value}{text[end:]}"
    path.write_text(text)
    (boxes,) = load_voc("train", devkit, check_counts=False).boxes
    np.testing.assert_allclose(boxes, [[6 / 50, 21 / 80, 1.0, 40.5 / 80]], rtol=1e-6)


def test_folder_may_be_the_one_above_or_below(devkit):
    for folder in (devkit.parent, devkit / "VOC2012", str(devkit)):
        assert len(load_voc("train", folder, check_counts=False)) == 7


def test_same_from_tensorflow_datasets(devkit, tmp_path, monkeypatch):
    lists = devkit / "VOC2012" / "ImageSets" / "Main"
    (lists / "test.txt").write_text("2008_000001\n")  # TFDS prepares the test split as well
    # The real preparation, with the tiny archive in place of the download.
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(tfds_images, "_check_reachable", lambda url: None)
    monkeypatch.setattr(
        tensorflow_datasets.download.DownloadManager,
        "download_and_extract",
        lambda manager, urls: {name: str(devkit.parent) for name in urls},
    )
    for split in ("train", "validation"):
        expected = load_voc(split, devkit, check_counts=False)
        images = load_voc(split, check_counts=False)
        assert_same(images, expected)
    assert (tmp_path / "voc" / "2012").is_dir()


def assert_same(images, expected):
    assert images.names == expected.names
    assert images.label_names == expected.label_names
    np.testing.assert_array_equal(images.labels, expected.labels)
    for name in ("box_labels", "boxes"):
        for found, wanted in zip(getattr(images, name), getattr(expected, name)):
            assert found.dtype == wanted.dtype
            np.testing.assert_array_equal(found, wanted)
    for index in reversed(range(len(images))):  # any order
        with open(expected.sources[index], "rb") as file:
            assert images.sources[index] == file.read()


def test_same_from_mocked_tensorflow_datasets(devkit, monkeypatch):
    expected = load_voc("train", devkit, check_counts=False)
    fetched = []

    class Records:
        """Two images of the folder in the wrong order, and one with a difficult object."""

        def __len__(self):
            return 3

        def __getitem__(self, index):
            if index > 2:
                raise IndexError
            fetched.append(index)
            number = (3, 1, 0)[index]
            with open(expected.sources[number], "rb") as file:
                content = file.read()
            count = len(expected.box_labels[number])
            return {
                "image": content,
                "image/filename": expected.names[number].encode(),
                "objects": {
                    "label": expected.box_labels[number],
                    "bbox": expected.boxes[number],
                    "is_difficult": np.full(count, index == 2),
                },
            }

    def as_data_source(builder, split, decoders=None, **kwargs):
        assert split == "train"
        assert isinstance(decoders["image"], tensorflow_datasets.decode.SkipDecoding)
        return Records()

    monkeypatch.setattr(tfds_images, "_check_reachable", lambda url: None)
    with tensorflow_datasets.testing.mock_data(as_data_source_fn=as_data_source):
        images = load_voc("train", check_counts=False)
    fetched.clear()
    assert_same(images, expected.take([1, 3]))
    assert fetched == [0, 1]  # one record an image, no other


def test_count_is_checked(devkit):
    with pytest.raises(ValueError, match=r"5,717 images.*VOCdevkit.*Received: 7.*check_counts"):
        load_voc("train", devkit)
    with pytest.raises(ValueError, match=r"5,823 images.*Received: 3"):
        load_voc("validation", devkit)


def test_mean_number_of_labels_is_compared():
    labels = np.array([[1, 1], [1, -1]], "int8")
    with pytest.warns(UserWarning, match="The set has 1.50 labels an image, the paper says 1.38"):
        tfds_images.check_count(2, 2, labels, 1.38, "The set")
    tfds_images.check_count(2, 2, labels, 1.49, "The set")
    tfds_images.check_count(2, 2, labels, None, "The set")


def test_other_split_is_refused(devkit):
    with pytest.raises(ValueError, match="`split` to be one of.*Received: split='val'"):
        load_voc("val", devkit)


def test_no_network_says_what_to_do(tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        assert 0 < kwargs["timeout"] <= 30
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(requests, "head", no_network)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(ValueError, match="no route") as caught:
        load_voc("train")
    for part in (
        "VOCtrainval_11-May-2012.tar",
        "python train.py --dataset voc --data-dir .../VOCdevkit",
        str(tmp_path / "data" / "downloads" / "manual"),
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "stop, raised", [(OSError("disk full"), ValueError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_a_failed_preparation_is_explained_and_can_be_tried_again(
    devkit, tmp_path, monkeypatch, stop, raised
):
    def fail(manager, urls):
        raise stop

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(tfds_images, "_check_reachable", lambda url: None)
    manager = tensorflow_datasets.download.DownloadManager
    monkeypatch.setattr(manager, "download_and_extract", fail)
    with pytest.raises(raised) as caught:
        load_voc("train", check_counts=False)
    if raised is ValueError:
        assert "OSError: disk full" in str(caught.value)
        assert f"into {tmp_path}/downloads/manual" in str(caught.value)
    (devkit / "VOC2012" / "ImageSets" / "Main" / "test.txt").write_text("2008_000001\n")
    archive = {"trainval": str(devkit.parent), "test": str(devkit.parent)}
    monkeypatch.setattr(manager, "download_and_extract", lambda manager, urls: archive)
    assert len(load_voc("train", check_counts=False)) == 7


@pytest.mark.parametrize(
    "path, content, match",
    [
        ("Annotations/2008_000001.xml", None, r"annotation .*2008_000001\.xml. It is missing"),
        ("Annotations/2008_000001.xml", "<annotation>", r"2008_000001\.xml: .*no XML"),
        ("Annotations/2008_000001.xml", "<annotation/>", r"2008_000001\.xml: .*<size>"),
        ("JPEGImages/2008_000001.jpg", None, r"image .*2008_000001\.jpg.* It is missing"),
        ("ImageSets/Main/train.txt", None, r"train\.txt. It is missing"),
    ],
)
def test_missing_and_broken_files_are_named(tmp_path, path, content, match):
    devkit = write_voc(tmp_path)
    path = devkit / "VOC2012" / path
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(ValueError, match=match):
        load_voc("train", devkit, check_counts=False)


def test_label_that_voc_does_not_have(tmp_path):
    devkit = write_voc(tmp_path)
    path = devkit / "VOC2012" / "Annotations" / "2008_000001.xml"
    path.write_text(path.read_text().replace("aeroplane", "airplane"))
    with pytest.raises(ValueError, match=r"2008_000001\.xml: .*one of the 20 labels"):
        load_voc("train", devkit, check_counts=False)


def test_folder_without_voc(tmp_path):
    with pytest.raises(ValueError, match="`data_dir` to be the folder VOCdevkit.*holds none"):
        load_voc("train", tmp_path)
    with pytest.raises(ValueError, match="nowhere, which does not exist"):
        load_voc("train", tmp_path / "nowhere")
