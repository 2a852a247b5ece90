import keras
import numpy as np
import pytest
from backend import FEW_STEPS
from small import small_images, small_labels

from keras_patchpu.losses import WeakNegative
from keras_patchpu.models import ResNetClassifier


def small_resnet(**kwargs):
    arguments = {"num_labels": 3, "image_size": (32, 32), "width": 0.0625, "output_stride": 16}
    return ResNetClassifier(**(arguments | kwargs))


@pytest.fixture(scope="module")
def model():
    """A small ResNet whose batch norms know the images."""
    keras.utils.set_random_seed(0)
    model = small_resnet(batch_norm_momentum=0.0)
    model(small_images(), training=True)
    return model


def test_full_width_is_the_resnet_50_of_keras(whole_resnet):
    model = ResNetClassifier(num_labels=20, image_size=(64, 64))
    # keras.applications.ResNet50(include_top=False) has 23,587,712, the head 2048 * 20 + 20.
    assert model.num_parameters == 23_587_712 + 40_980
    assert model.feature_extractor.output_shape == (None, 2, 2, 2048)


def test_stride():
    for stride, places in ((32, 1), (16, 2), (8, 4)):
        model = small_resnet(output_stride=stride)
        assert model.feature_extractor.output_shape == (None, places, places, 128)


def test_a_quarter_of_the_width_has_a_sixteenth_of_the_weights_between_layers(whole_resnet):
    model = small_resnet(width=0.25)
    kernels = [w for w in model.feature_extractor.weights if w.path.endswith("kernel")]
    whole = 23_454_912  # of ResNet-50's kernels, the first of them from 3 channels
    first = 7 * 7 * 3 * 64
    assert sum(int(np.prod(w.shape)) for w in kernels) == (whole - first) // 16 + first // 4


def test_probabilities_are_the_sigmoid_of_the_mean_score(model):
    outputs = model.explain(small_images())
    features = outputs["features"]
    kernel, bias = (np.asarray(w) for w in model.scores.get_weights())
    maps = features @ kernel[0, 0] + bias
    np.testing.assert_allclose(outputs["score_maps"], maps, rtol=1e-4, atol=1e-5)
    logits = features.mean(axis=(1, 2)) @ kernel[0, 0] + bias
    np.testing.assert_allclose(outputs["logits"], logits, rtol=1e-4, atol=1e-5)
    expected = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-6)
    # `predict` may be compiled otherwise, and these batch norms, which know four small images,
    # divide by tiny deviations: rounding grows to 1e-4 on some machines.
    np.testing.assert_allclose(model.predict(small_images(), verbose=0), expected, atol=1e-3)


def test_embeddings_are_features_averaged_by_the_softmax_of_the_scores(model):
    outputs = model.explain(small_images())
    weights = np.exp(outputs["score_maps"])
    weights = weights / weights.sum(axis=(1, 2), keepdims=True)
    expected = np.einsum("bhwl,bhwc->blc", weights, outputs["features"])
    np.testing.assert_allclose(outputs["image_embeddings"], expected, rtol=1e-4, atol=1e-6)


def test_pixels_are_prepared_as_keras_does(model):
    images = small_images().astype("float32")
    expected = keras.applications.resnet50.preprocess_input(images.copy())
    found = keras.ops.convert_to_numpy(model.get_layer("preprocess")(images))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_trains_by_weak_negatives_and_round_trips(tmp_path):
    keras.utils.set_random_seed(0)
    model = small_resnet(label_names=["a", "b", "c"], thresholds=[0.1, 0.2, 0.3])
    model.compile("adam", WeakNegative(), **FEW_STEPS)
    before = model.scores.get_weights()[0]
    model.fit(small_images(), small_labels(), verbose=0)
    assert np.abs(model.scores.get_weights()[0] - before).max() > 1e-5
    model.save(tmp_path / "model.keras")
    other = keras.saving.load_model(tmp_path / "model.keras")
    assert other.get_config() == model.get_config()
    assert other.label_names == ("a", "b", "c") and other.thresholds == (0.1, 0.2, 0.3)
    np.testing.assert_allclose(
        other.predict(small_images(), verbose=0),
        model.predict(small_images(), verbose=0),
        atol=1e-6,
    )


def test_a_model_from_its_config_downloads_nothing(monkeypatch):
    config = {**small_resnet(width=1.0).get_config(), "weights": "imagenet"}
    asked = []

    def without_network(weights, **kwargs):
        asked.append(weights)
        return real(weights=weights, **kwargs)

    real = keras.applications.ResNet50
    monkeypatch.setattr(keras.applications, "ResNet50", without_network)
    assert ResNetClassifier.from_config(config).get_config()["weights"] == "imagenet"
    assert asked == [None]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_labels": 0}, "num_labels"),
        ({"image_size": 32}, "image_size"),
        ({"image_size": (31, 32)}, "image_size"),
        ({"weights": "coco"}, "weights"),
        ({"width": 0}, "width"),
        ({"width": 0.5, "weights": "imagenet"}, "Expected `weights=None`"),
        ({"output_stride": 4}, "output_stride"),
        ({"batch_norm_momentum": 1.0}, "batch_norm_momentum"),
        ({"image_fit": "crop"}, "image_fit"),
        ({"label_names": ["a", "b"]}, "3 different strings"),
        ({"thresholds": [0.1, 0.2, 1.3]}, "thresholds"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small_resnet(**changes)
