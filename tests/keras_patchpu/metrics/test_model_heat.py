import backend
import numpy as np
import pytest
from keras import ops
from small import calibrated_classifier, small_classifier, small_images

from keras_patchpu.metrics import score_map_heat
from keras_patchpu.metrics.model_heat import (
    finer_model,
    heat_of,
    reason_of,
    sharpened_heat_of,
)
from keras_patchpu.models import ResNetClassifier


@pytest.fixture(scope="module")
def resnet():
    """4x4 score maps of 3 labels, each with some heat, and with biases that are not 0."""
    model = ResNetClassifier(3, (32, 32), width=0.05, output_stride=8)
    mean_score = model.explain(small_images(2), ["logits"])["logits"].mean(axis=0)
    model.scores.kernel.assign(model.scores.kernel * np.where(mean_score > 0, 1, -1))
    model.scores.bias.assign([0.5, -0.25, 0.0])
    return model


def grad_cam(features, gradients):
    """Eq. (1)-(2) of Selvaraju et al.: `relu(sum_k alpha_k A_k)`, alpha the mean gradient."""
    alpha = gradients.mean(axis=(1, 2), keepdims=True)
    return np.maximum((alpha * features).sum(axis=-1), 0.0)


# === Score maps ===


def test_score_map_heat_by_hand():
    maps = np.array([[[[1.0, -1.0], [0.5, 2.0]]]])
    np.testing.assert_allclose(score_map_heat(maps), [[[[1, 0], [0.5, 2]]]])
    np.testing.assert_allclose(score_map_heat(maps, [0.75, -3]), [[[[0.25, 2], [0, 5]]]])


def test_they_agree_for_a_head_of_score_maps_and_their_mean():
    random = np.random.default_rng(0)
    features = random.normal(size=(2, 3, 5, 4)).astype("float32")
    kernel = random.normal(size=(4, 6)).astype("float32")
    bias = random.normal(size=6).astype("float32")
    heat = score_map_heat(features @ kernel + bias, bias)
    for label in range(6):

        def logits(x, label=label):
            score_maps = ops.add(ops.matmul(x, ops.convert_to_tensor(kernel)), bias)
            # The sum over images: each depends on its own features alone.
            return ops.sum(ops.mean(score_maps, axis=(1, 2))[:, label])

        gradients = backend.gradient(logits, features)
        found = grad_cam(features, gradients)
        assert (found > 0).any() and (found == 0).any()
        np.testing.assert_allclose(15 * found, heat[..., label], atol=1e-5)


def test_score_maps_of_the_resnet_are_its_grad_cam(resnet):
    explained = resnet.explain(small_images(2), ("features", "score_maps", "logits"))
    features = explained["features"]

    def logits(x):
        return ops.mean(resnet.scores(x), axis=(1, 2))

    found = ops.convert_to_numpy(logits(ops.convert_to_tensor(features)))
    np.testing.assert_allclose(found, explained["logits"], rtol=1e-4, atol=1e-5)
    heat = score_map_heat(explained["score_maps"], resnet.scores.bias)
    for label in range(3):
        gradients = backend.gradient(lambda x, i=label: ops.sum(logits(x)[:, i]), features)
        expected = 16 * grad_cam(features, gradients)
        assert (expected > 0).any()
        np.testing.assert_allclose(heat[..., label], expected, rtol=1e-3, atol=1e-5)


# === Heat of a model ===


INDEX = np.array([[-1, 1, -1], [0, -1, 2]])  # three of six pairs are kept
KEPT = [1, 0, 1], [0, 1, 2]  # images and labels of the rows 0, 1 and 2
PAIRS = np.nonzero(INDEX >= 0)


def test_heat_of_attention():
    model = small_classifier()
    attention = np.random.default_rng(0).dirichlet(np.ones(5), size=(2, 3))
    assert reason_of(model) == "attention"
    whole = heat_of(model, {"attention": attention}, (7, 7))
    kept = heat_of(model, {"attention": attention[KEPT]}, (7, 7), INDEX)
    peaks, _ = whole(*PAIRS)
    # Four quarters in reading order, and the whole image on top.
    quarters = attention[PAIRS][:, :4].reshape(3, 2, 2) + attention[PAIRS][:, 4:, None]
    np.testing.assert_allclose(peaks, quarters, rtol=1e-6)
    np.testing.assert_array_equal(kept(*PAIRS), whole(*PAIRS))


def test_heat_of_score_maps(resnet):
    maps = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    assert reason_of(resnet) == "score_maps"
    whole = heat_of(resnet, {"score_maps": maps}, (4, 4))
    first = np.moveaxis(maps, -1, 1)
    kept = heat_of(resnet, {"score_maps": first[KEPT]}, (4, 4), INDEX)
    expected = np.maximum(first - np.array([0.5, -0.25, 0.0])[:, None, None], 0)[PAIRS]
    for heat in (whole, kept):
        peaks, masses = heat(*PAIRS)
        np.testing.assert_allclose(peaks, expected, atol=1e-6)
        np.testing.assert_array_equal(masses, peaks)


def test_sharpened_heat_by_hand():
    model, images = calibrated_classifier(), small_images(3)
    # Steps of 8 pixels: 3x3 patches of 16 pixels of 32x32, and one of the image at half its size.
    finer = finer_model(model)
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
    peaks, masses = sharpened_heat_of(model, images)(rows, columns)
    assert expected.max() > 1.01  # nothing is even
    np.testing.assert_allclose(peaks, expected[rows, columns], rtol=1e-3)
    np.testing.assert_allclose(masses, peaks / 16, rtol=1e-5)


@pytest.mark.parametrize(("strides", "expected"), [(None, 8), (4, 4), (12, 8)])
def test_steps_are_never_made_larger(strides, expected):
    assert finer_model(small_classifier(strides=strides)).patch_extractor.strides == expected
