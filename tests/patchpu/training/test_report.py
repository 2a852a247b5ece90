"""What a run tells about places and weak negatives, on values worked out by hand."""

import json

import keras
import numpy as np
import pytest
from small import calibrated_classifier, small_classifier, small_images
from tiny_data import write_coco, write_voc

from keras_patchpu.datasets import Digits, ImageFiles
from keras_patchpu.datasets.read_image import read_image
from keras_patchpu.losses import WeakNegative
from keras_patchpu.metrics import AttentionHeat, ScoreMapHeat, model_heat
from keras_patchpu.models import ResNetClassifier
from patchpu.training import callbacks as callbacks_module
from patchpu.training import localization as places
from patchpu.training.callbacks import make_quality
from patchpu.training.config import TrainConfig
from patchpu.training.data import RunData, load_data
from patchpu.training.report import write_report
from patchpu.training.run_folder import RunFolder

# Their way through a run is that of test_run.py.
pytestmark = pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="JAX compiles these for minutes"
)

# The four quarters of the image in reading order, then the whole.
TOP_LEFT, TOP_RIGHT, BOTTOM_RIGHT = [0, 0, 0.5, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]
QUALITY = (
    "precision",
    "recall",
    "mean_weight_absent",
    "mean_weight_present",
    "auc",
    "absent_share",
)


def small_resnet():
    """4x4 score maps of 3 labels, with biases that are not 0."""
    model = ResNetClassifier(3, (32, 32), width=0.05, output_stride=8)
    model.scores.bias.assign([0.5, -0.25, 0.0])
    return model


def small_data(validation):
    return RunData(None, validation, None, None)


def digits_of(images, labels, boxes=None):
    boxes = np.zeros((*np.shape(labels), 4), "float32") if boxes is None else boxes
    return Digits(images, np.asarray(labels, "int8"), boxes, ("a", "b", "c"))


# === places ===


@pytest.mark.parametrize("make_model", [calibrated_classifier, small_resnet])
def test_what_is_kept_is_what_the_model_says(make_model, monkeypatch):
    model, images = make_model(), small_images(5)
    labels = np.eye(3)[[0, 1, 2, 0, 1]]
    whole = model.explain(images)
    # So that about half of the absent labels are left out, and that there are several batches.
    monkeypatch.setattr(places, "_MIN_SCORE", np.median(whole["probabilities"]))
    monkeypatch.setattr(places, "_PIXELS_AT_ONCE", 2 * 32 * 32)
    explained = places.explain_validation(None, model, small_data(digits_of(images, labels)))
    np.testing.assert_allclose(explained.scores, whole["probabilities"], rtol=1e-4)
    kept = (labels > 0) | (explained.scores >= places._MIN_SCORE)
    assert 5 < kept.sum() < 15
    np.testing.assert_array_equal(explained.index >= 0, kept)

    # Of the labels that are kept, the same heat as of everything.
    heat = model_heat.heat_of(model, explained.why, (32, 32), explained.index)
    rows, columns = np.nonzero(kept)
    if "attention" in whole:
        expected = AttentionHeat(whole["attention"], model.patch_boxes, (32, 32))
    else:
        maps = np.maximum(whole["score_maps"] - np.array([0.5, -0.25, 0.0], "float32"), 0)
        assert (maps > 0).any() and (maps == 0).any()
        expected = ScoreMapHeat(maps, (32, 32))
        everything = model_heat.heat_of(model, whole, (32, 32))
        np.testing.assert_allclose(
            everything(rows, columns), expected(rows, columns), rtol=1e-4, atol=1e-6
        )
    np.testing.assert_allclose(heat(rows, columns), expected(rows, columns), rtol=1e-3, atol=1e-5)


def test_places_of_several_boxes_a_label_by_hand():
    model = small_classifier()
    labels = np.array([[1, -1, -1], [-1, 1, -1], [1, -1, -1]], "int8")
    boxes = [np.array([TOP_LEFT, BOTTOM_RIGHT]), np.array([TOP_RIGHT]), np.zeros((0, 4))]
    box_labels = [np.array([0, 0]), np.array([1]), np.zeros(0, int)]
    files = ImageFiles(list("xyz"), list("xyz"), labels, tuple("abc"), box_labels, boxes)
    # Image 0: three quarters top left, the rest even. Image 1: even. Image 2: no box.
    attention = np.array([[0.75, 0, 0, 0, 0.25], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1]])
    index = np.array([[0, -1, -1], [-1, 1, -1], [2, -1, -1]])
    scores = np.array([[0.9, 0.01, 0.01], [0.01, 0.8, 0.01], [0.7, 0.01, 0.01]])
    explained = places.Explained(scores, {"attention": attention}, index)
    heat = AttentionHeat(attention, model.patch_boxes, (32, 32), index)
    result = places.measure_heat(heat, small_data(files), explained, boxes)
    assert result["peak_in_box"] == 0.5  # the middle of the image is no quarter's inside
    # 0.75 + half of 0.25 in the two boxes of image 0, a quarter in that of image 1.
    assert result["attention_in_box"] == pytest.approx((0.875 + 0.25) / 2)
    assert result["box_area"] == pytest.approx((0.5 + 0.25) / 2)
    assert (result["labels"], result["labels_without_box"]) == (2, 1)
    # Cut out of image 0: the quarter top left, one of two. Of image 1: all, 4 times the box.
    assert result["box_ap"] == {"0.3": 0.25, "0.5": 0.25}
    per_label = [row["box_ap"] for row in result["per_label"]]
    assert per_label == [
        {"0.3": 0.5, "0.5": 0.5},
        {"0.3": 0.0, "0.5": 0.0},
        {"0.3": None, "0.5": None},
    ]
    json.dumps(result["per_label"])
    assert result["pairs"]["row"].tolist() == [0, 1]


def test_sharpened_heat_by_hand():
    model, images = calibrated_classifier(), small_images(3)
    # Steps of 8 pixels: 3x3 patches of 16 pixels of 32x32, and one of the image at half its size.
    finer = model_heat.finer_model(model)
    assert finer.patch_extractor.strides == 8 and len(finer.patch_boxes) == 10
    outputs = finer.explain(images)
    weights = outputs["attention"] / (1 + np.exp(-outputs["patch_logits"]))
    expected = np.zeros((3, 3, 4, 4))
    for patch in range(9):
        row, column = divmod(patch, 3)
        here = expected[:, :, row : row + 2, column : column + 2]
        here += weights[:, :, patch, None, None]
    # The one patch of the second level is even.
    expected /= expected.mean(axis=(2, 3), keepdims=True)
    rows, columns = np.nonzero(np.ones((3, 3)))
    peaks, masses = model_heat.sharpened_heat_of(model, images)(rows, columns)
    assert expected.max() > 1.01  # nothing is even
    np.testing.assert_allclose(peaks, expected[rows, columns], rtol=1e-3)
    np.testing.assert_allclose(masses, peaks / 16, rtol=1e-5)

    # The same, image by image, of the labels that are kept.
    index = np.array([[0, -1, 1], [-1, -1, 2], [3, -1, -1]])
    config = TrainConfig(output="unused")
    data = small_data(digits_of(images, np.eye(3)))
    kept = places.sharpened_heat(config, model, data, index)
    found, _ = kept([0, 0, 1, 2], [0, 2, 2, 0])
    np.testing.assert_allclose(found, expected[[0, 0, 1, 2], [0, 2, 2, 0]], rtol=1e-3)


def test_steps_are_never_made_larger():
    assert model_heat.finer_model(small_classifier(strides=4)).patch_extractor.strides == 4
    assert model_heat.finer_model(small_classifier(strides=12)).patch_extractor.strides == 8


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("write", [write_voc, write_coco])
def test_boxes_lie_where_the_model_sees_them(write, fit, tmp_path):
    dataset = write.__name__.removeprefix("write_")
    config = TrainConfig(
        dataset=dataset,
        data_dir=str(write(tmp_path, size=(40, 60))),
        check_counts=False,
        image_fit=fit,
        image_size=120,
    )
    data = load_data(config)
    files = data.validation
    for source, boxes in zip(files.sources, places.seen_boxes(config, data)):
        image = read_image(source, (120, 120), fit).astype(float)
        # Objects are rectangles of one bright colour, everything else is grey or black.
        colourful = (image.max(axis=-1) - image.min(axis=-1)) > 60
        covered = np.zeros((120, 120), bool)
        for top, left, bottom, right in np.round(boxes * 120).astype(int):
            covered[top:bottom, left:right] = True
            assert colourful[top + 3 : bottom - 3, left + 3 : right - 3].mean() > 0.99
        if dataset == "coco":  # in VOC objects that are difficult have no box
            assert (colourful & ~covered).sum() < 0.1 * covered.sum()


def test_own_images_and_scenes_have_the_boxes_they_have():
    files = ImageFiles(["x"], ["x"], np.array([[1]]), ("a",))
    assert not places.has_boxes(files)
    assert places.seen_boxes(TrainConfig(image_fit="pad"), small_data(files)) is None
    scenes = digits_of(small_images(1), [[1, 0, 0]])
    assert not places.has_boxes(scenes)  # boxes of zeros are none
    scenes.boxes[0, 0] = TOP_LEFT
    assert places.has_boxes(scenes) and places.box_labels_of(scenes) is None


# === The report ===


def write_small_report(folder, classifier, validation, rows=({},), **settings):
    config = TrainConfig(output=str(folder), image_size=32, epochs=1, **settings)
    folder.mkdir(exist_ok=True)
    common = {"loss": 1.0, "val_mAP": 0.5, "val_reciprocal_rank": 0.5, "seconds": 1.0}
    rows = [{"epoch": number, **common, **row} for number, row in enumerate(rows, start=1)]
    return write_report(RunFolder(folder), config, classifier, small_data(validation), rows)


def test_report_of_a_model_without_attention(tmp_path):
    labels = np.eye(3)[[0, 1, 2, 0]]
    boxes = np.zeros((4, 3, 4), "float32")
    boxes[labels > 0] = TOP_LEFT
    model = small_resnet()
    images = small_images()
    report = write_small_report(tmp_path, model, digits_of(images, labels, boxes), model="resnet")
    # Its Grad-CAM, resized by Keras.
    maps = model.explain(images)["score_maps"] - np.array([0.5, -0.25, 0.0], "float32")
    heat = keras.ops.convert_to_numpy(keras.ops.image.resize(np.maximum(maps, 0), (32, 32)))
    heat = np.stack([heat[row, ..., label] for row, label in enumerate([0, 1, 2, 0])])
    with_heat = heat.any(axis=(1, 2))
    shares = heat[with_heat, :16, :16].sum((1, 2)) / heat[with_heat].sum((1, 2))
    localization = report["localization"]
    assert localization["attention_in_box"] == pytest.approx(shares.sum() / 4, abs=1e-4)
    assert localization["labels_without_heat"] == (~with_heat).sum()
    assert "sharpened" not in localization and not (tmp_path / "sharpened.png").exists()
    assert json.loads((tmp_path / "report.json").read_text()) == report
    page = (tmp_path / "report.md").read_text()
    assert "Where the Grad-CAM of a known label lies" in page and "negatives.png" not in page
    assert (tmp_path / "located.png").stat().st_size > 10_000
    assert not (tmp_path / "negatives.png").exists()


def test_report_tells_how_right_the_weak_negatives_were(tmp_path):
    lines = [(0.9, 0.8, 0.8, 0.7, 0.5, 0.9), (float("nan"), 0.0, 0.0, 0.0, 0.5, 0.9)]
    rows = [{f"wn_{name}": value for name, value in zip(QUALITY, line)} for line in lines]
    validation = digits_of(small_images(3), np.eye(3))
    report = write_small_report(tmp_path, small_classifier(), validation, rows)
    assert report["localization"] is None and not (tmp_path / "located.png").exists()
    assert report["weak_negatives"]["precision"] is None
    assert (
        report["weak_negatives"]["absent_share"] == 0.9 and report["weak_negatives"]["epoch"] == 2
    )
    page = (tmp_path / "report.md").read_text()
    assert "precision not defined, recall 0.000, AUC 0.500; 90.0% of the labels" in page
    assert (tmp_path / "negatives.png").stat().st_size > 5_000


def test_report_tells_the_sharpened_heat_beside_the_attention(tmp_path):
    model, images, labels = calibrated_classifier(), small_images(4), np.eye(3)[[0, 1, 2, 0]]
    boxes = np.zeros((4, 3, 4), "float32")
    boxes[labels > 0] = TOP_LEFT
    report = write_small_report(tmp_path, model, digits_of(images, labels, boxes))
    localization = report["localization"]
    rows, columns = np.nonzero(labels)
    for heat, found in (
        (model_heat.sharpened_heat_of(model, images), localization["sharpened"]),
        (model_heat.heat_of(model, model.explain(images), (32, 32)), localization),
    ):
        _, masses = heat(rows, columns)
        half = len(heat.ys) // 2
        shares = masses[:, :half, :half].sum((1, 2)) / masses.sum((1, 2))
        assert found["attention_in_box"] == pytest.approx(shares.mean(), abs=1e-4)
        assert set(found["box_ap"]) == {"0.3", "0.5"} and "pairs" not in found
    assert localization["sharpened"]["attention_in_box"] != localization["attention_in_box"]
    assert json.loads((tmp_path / "report.json").read_text()) == report
    page = (tmp_path / "report.md").read_text()
    for found in (localization, localization["sharpened"]):
        assert f"share of it inside the boxes: {found['attention_in_box']:.1%}" in page
    assert (tmp_path / "sharpened.png").stat().st_size > 10_000


# === The callback of a run ===


def judged(loss="wn", theta=0.0, train=None, observed=None):
    labels = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    train = digits_of(small_images(3), labels) if train is None else train
    observed = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]]) if observed is None else observed
    config = TrainConfig(loss=loss, image_size=32, output="unused")
    return make_quality(config, RunData(train, None, observed, None), WeakNegative(theta=theta))


def test_a_run_judges_its_first_training_images(monkeypatch):
    monkeypatch.setattr(callbacks_module, "NUM_JUDGED", 2)
    callback = judged(theta=0.5)
    np.testing.assert_array_equal(callback.images, small_images(3)[:2])
    assert callback.observed.tolist() == [[1, 0, 0], [0, 1, 0]]
    assert callback.labels.tolist() == [[1, 1, 0], [0, 1, 0]]
    assert callback.theta == 0.5
    assert judged(theta=-0.5).theta == 0.0


def test_a_run_judges_no_weak_negatives_that_it_does_not_have_or_know():
    assert judged() is not None
    assert judged(loss="an") is None
    unknown = ImageFiles(list("xyz"), list("xyz"), np.eye(3, dtype="int8"), tuple("abc"))
    assert judged(train=unknown) is None
    assert judged(observed=np.where(np.eye(3) > 0, 1, -1)) is None


def test_files_are_judged_as_the_same_images_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(callbacks_module, "NUM_JUDGED", 5)
    config = TrainConfig(
        dataset="voc",
        data_dir=str(write_voc(tmp_path)),
        check_counts=False,
        image_size=32,
        batch_size=2,
        output=str(tmp_path),
    )
    data = load_data(config)
    callback = make_quality(config, data, WeakNegative(theta=0.0))
    callback.set_model(calibrated_classifier(num_labels=20))
    callback.on_epoch_end(0)
    found = callback.quality
    callback.images = np.stack([read_image(s, (32, 32)) for s in data.train.sources[:5]])
    callback.on_epoch_end(1)
    assert found == pytest.approx(callback.quality, rel=1e-4)
    assert 0 < found["mean_weight_present"] < 1
