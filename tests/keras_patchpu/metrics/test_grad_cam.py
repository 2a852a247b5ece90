import backend
import numpy as np
import pytest
from keras import ops

from keras_patchpu.metrics import grad_cam, score_map_heat
from keras_patchpu.models import ResNetClassifier


def test_grad_cam_by_hand():
    features = np.array([[[[1.0, 2.0], [0.0, 4.0]]]])  # (1, 1, 2, 2)
    gradients = np.array([[[[3.0, -1.0], [1.0, 0.0]]]])  # means 2 and -0.5
    np.testing.assert_allclose(grad_cam(features, gradients), [[[2 - 1, 0]]])  # 0 - 2 is cut off


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


def test_score_maps_of_the_resnet_are_its_grad_cam():
    model = ResNetClassifier(3, (32, 32), width=0.05, output_stride=8)
    bias = np.array([0.5, -0.25, 0.0], "float32")
    model.scores.bias.assign(bias)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("uint8")
    explained = model.explain(images, ("features", "score_maps", "logits"))
    features = explained["features"]

    def logits(x):
        return ops.mean(model.scores(x), axis=(1, 2))

    found = ops.convert_to_numpy(logits(ops.convert_to_tensor(features)))
    np.testing.assert_allclose(found, explained["logits"], rtol=1e-4, atol=1e-5)
    heat = score_map_heat(explained["score_maps"], bias)
    for label in range(3):
        gradients = backend.gradient(lambda x, i=label: ops.sum(logits(x)[:, i]), features)
        expected = 16 * grad_cam(features, gradients)
        assert (expected > 0).any()
        np.testing.assert_allclose(heat[..., label], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 2, 2, 4), (1, 2, 3)])
def test_bad_shapes(shape):
    with pytest.raises(ValueError, match="one shape"):
        grad_cam(np.ones((1, 2, 2, 3)), np.ones(shape))
