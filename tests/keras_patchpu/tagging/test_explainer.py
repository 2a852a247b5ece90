"""What a model says of one image and where it looks, by hand."""

import numpy as np
import pytest
from PIL import Image
from small import calibrated_classifier, small_backbone_classifier

from keras_patchpu.datasets.read_image import ImageError, read_image
from keras_patchpu.metrics import heat_pixels
from keras_patchpu.metrics.model_heat import sharpened_heat_of
from keras_patchpu.models import ResNetClassifier
from keras_patchpu.tagging import Explainer, Tagger, given_labels

pytestmark = pytest.mark.usefixtures("few_blocks")

NAMES = ["cat", "<i>dog</i>", "owl"]


@pytest.fixture(scope="module")
def model():
    return calibrated_classifier(label_names=NAMES)


@pytest.fixture(scope="module")
def explainer(model):
    return Explainer(model)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of large fields: of noise all scores are alike."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for index, shape in enumerate([(32, 32), (48, 20), (20, 64), (90, 70)]):
        pixels = random.integers(0, 256, (3, 3, 3)).astype("uint8")
        image = Image.fromarray(pixels).resize(shape[::-1], Image.Resampling.NEAREST)
        image.save(folder / f"{index}.png")
    return folder


@pytest.mark.parametrize("name", ["0.png", "1.png", "2.png", "3.png"])
def test_scores_and_tags_are_the_taggers(model, explainer, folder, name):
    (expected,) = Tagger(model, batch_size=1)([str(folder / name)])
    found = explainer(str(folder / name), name).found
    assert (found.name, found.size) == (name, expected.size)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    assert [NAMES[label] for label in given_labels(found.scores)] == list(expected.tags)


@pytest.mark.parametrize(
    "scores, thresholds, expected",
    [
        ([0.1, 0.9, 0.5, 0.9], None, [1, 3, 2]),  # the best three, the first of equals first
        ([0.1, 0.9, 0.5, 0.9], 0.5, [1, 3, 2]),
        ([0.1, 0.9, 0.5, 0.9], [0.05, 0.95, 0.6, 0.9], [3, 0]),
        ([0.1, 0.2], 0.3, []),
        ([0.3, 0.2], [0.3, 0.3], [0]),
    ],
)
def test_given_labels_by_hand(scores, thresholds, expected):
    # float32 as of a model; thresholds that are exact in it
    scores = np.array(scores, "float32").astype("float64")
    thresholds = None if thresholds is None else np.array(thresholds, "float32")
    assert given_labels(scores, thresholds).tolist() == expected


def test_heat_of_levels_by_hand(explainer):
    image = np.zeros((32, 64, 3), "uint8")
    explanation = explainer(image, "black")
    assert explanation.image.shape == (360, 720, 3)
    assert explainer.views == {
        "all": "all patches",
        "0": "2 × 2 patches",
        "1": "1 × 1 patch",
        "sharpened": "sharpened",
    }
    attention = np.array([[0.1, 0.2, 0.3, 0.15, 0.25], [0.0, 0.0, 0.0, 0.0, 1.0], [1, 0, 0, 0, 0]])
    explanation.outputs["attention"] = attention[None].astype("float32")
    explanation.heats.clear()

    def corners(label, view):
        heat = explainer.heat(explanation, label, view)
        assert heat.shape == (360, 720)
        quarters = heat.reshape(2, 180, 2, 360).swapaxes(1, 2)
        assert np.ptp(quarters, axis=(2, 3)).max() < 1e-6
        return quarters[:, :, 0, 0]

    fine = np.array([[0.1, 0.2], [0.3, 0.15]])
    np.testing.assert_allclose(corners(0, "0"), fine / 0.1875, rtol=1e-6)
    np.testing.assert_allclose(corners(0, "1"), np.ones((2, 2)), rtol=1e-6)
    np.testing.assert_allclose(corners(0, "all"), (fine + 0.25) / 0.4375, rtol=1e-6)
    np.testing.assert_allclose(corners(1, "0"), np.zeros((2, 2)))
    np.testing.assert_allclose(corners(2, "all"), [[4, 0], [0, 0]], rtol=1e-6)

    # Alone, all patches of a level are lit; added up, what is above the mean.
    picture, text = explainer.overlay(explanation, 0, "0")
    strength = 0.7 * fine / 0.1875 / 2.0  # 2 times the mean, and more, is the strongest
    np.testing.assert_allclose(picture[::180, ::360, 0], 255 * strength, atol=0.51)
    assert text == "2 × 2 patches: 75 % of the attention of “cat”, the strongest 30 %."
    picture, text = explainer.overlay(explanation, 2, "all")
    np.testing.assert_allclose(picture[::180, ::360, 0], [[0.7 * 255, 0], [0, 0]], atol=0.51)
    assert text == "Red: the attention of “owl” is above its mean; at its peak 4.0 times the mean."
    picture, text = explainer.overlay(explanation, 1, "0")
    assert not picture.any() and text == "Nothing speaks for “<i>dog</i>” here."


def test_a_padded_image_is_shown_without_its_padding(model):
    padded = type(model).from_config({**model.get_config(), "image_fit": "pad"})
    padded.set_weights(model.get_weights())
    explainer = Explainer(padded)
    explanation = explainer(np.full((16, 32, 3), 99, "uint8"), "wide")
    # It lies in rows 8 to 24 of 32, so half of it in the upper patches.
    explanation.outputs["attention"] = np.array([[[1, 2, 3, 4, 0]]], "float32")
    explanation.heats.clear()
    heat = explainer.heat(explanation, 0, "all")
    assert heat.shape == (360, 720)
    np.testing.assert_allclose(heat[[0, 0, 359, 359], [0, 719, 0, 719]], [0.4, 0.8, 1.2, 1.6])
    assert explanation.found.size == (16, 32)


def test_sharpened_is_that_of_reports(model, explainer, folder):
    explanation = explainer(str(folder / "0.png"), "0.png")
    pixels = read_image(folder / "0.png", (32, 32))
    expected = heat_pixels(sharpened_heat_of(model, pixels[None]), [0], [1], (32, 32))[0]
    heat = explainer.heat(explanation, 1, "sharpened")
    at = np.arange(720) * 32 // 720
    np.testing.assert_allclose(heat, (expected / expected.mean())[at][:, at], rtol=1e-4)


def test_grad_cam_of_a_resnet():
    model = ResNetClassifier(2, (32, 32), width=0.05, output_stride=8, label_names=["a", "b"])
    model.run_eagerly = True
    explainer = Explainer(model)
    assert explainer.views == {"grad_cam": "Grad-CAM"}
    explanation = explainer(np.zeros((32, 32, 3), "uint8"), "black")
    maps = np.full((1, 4, 4, 2), -1.0)
    maps[0, 0, 0, 1], maps[0, 3, 3, 1] = 6.0, 2.0
    explanation.outputs["score_maps"] = maps
    explanation.heats.clear()
    heat = explainer.heat(explanation, 1, "grad_cam")
    assert heat[0, 0] == heat.max() and heat[0, 0] / heat[-1, -1] == pytest.approx(3)
    assert heat[300, 100] == 0
    _, text = explainer.overlay(explanation, 1, "grad_cam")
    assert text.startswith("Red: what speaks for “b” (Grad-CAM: a ResNet has no attention) is")


def test_an_image_that_cannot_be_read(explainer, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ImageError, match="notes.txt: not an image that can be read"):
        explainer(str(tmp_path / "notes.txt"), "notes.txt")


def test_a_model_that_predicts_nan(model):
    broken = type(model).from_config(model.get_config())
    broken.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    with pytest.raises(ValueError, match="predicts NaN"):
        Explainer(broken)


def test_places_of_a_backbone(folder):
    model = small_backbone_classifier(label_names=NAMES)
    explainer = Explainer(model)
    assert list(explainer.views) == ["all", "sharpened"]
    explanation = explainer(str(folder / "0.png"), "0.png")
    (expected,) = Tagger(model, batch_size=1)([str(folder / "0.png")])
    np.testing.assert_allclose(explanation.found.scores, expected.scores, atol=1e-6)
    pixels = read_image(folder / "0.png")[None]
    outputs = model.explain(pixels, ["attention", "patch_logits"])
    attention = outputs["attention"][0, 1].reshape(4, 4)
    found = explainer.heat(explanation, 1, "all")
    whole = np.kron(attention, np.ones((8, 8))) * 16
    rows = np.arange(found.shape[0]) * 32 // found.shape[0]
    np.testing.assert_allclose(found, whole[rows][:, rows], rtol=1e-4)
    sharp = attention / (1 + np.exp(-outputs["patch_logits"][0, 1].reshape(4, 4)))
    whole = np.kron(sharp / sharp.mean(), np.ones((8, 8)))
    found = explainer.heat(explanation, 1, "sharpened")
    np.testing.assert_allclose(found, whole[rows][:, rows], rtol=1e-3)
