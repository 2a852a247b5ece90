"""What holds of the classifiers for every image, and what they refuse."""

import drawn
import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import calibrated_classifier, small_classifier, small_images

from keras_patchpu import losses
from keras_patchpu.models import ResNetClassifier

pytestmark = pytest.mark.usefixtures("few_blocks")

# Not compiled: each number of images would be compiled anew.
EAGERLY = {"run_eagerly": True}
COLOURS = (0, 1, 128, 255)


@pytest.fixture(scope="module")
def patch_model():
    keras.utils.set_random_seed(0)
    model = calibrated_classifier()
    model.compile("sgd", losses.WeakNegative(), **EAGERLY)
    return model


@pytest.fixture(scope="module")
def resnet():
    keras.utils.set_random_seed(0)
    model = ResNetClassifier(3, (32, 32), width=0.02)
    model.compile("sgd", losses.AssumeNegative(), **EAGERLY)
    return model


@st.composite
def images(draw):
    """Up to three images, each noise or of one colour, of any numeric type."""
    pixels = small_images(draw(st.integers(1, 3)), seed=draw(st.integers(0, 99)))
    for image in pixels:
        if draw(st.booleans()):
            image[:] = draw(st.sampled_from(COLOURS))
    return pixels


@drawn.FEW
@given(pixels=images())
def test_any_number_type_and_layout_of_images(patch_model, pixels):
    expected = patch_model.predict_on_batch(pixels)
    assert expected.shape == (len(pixels), 3) and expected.dtype == "float32"
    assert (expected >= 0).all() and (expected <= 1).all()
    for same in (pixels.astype("float32"), drawn.not_contiguous(pixels)):
        np.testing.assert_array_equal(patch_model.predict(same, verbose=0), expected)
    alone = patch_model.predict_on_batch(pixels[-1:])
    np.testing.assert_allclose(alone, expected[-1:], rtol=1e-3, atol=1e-5)
    attention = patch_model.explain(pixels, ["attention"])["attention"]
    np.testing.assert_allclose(attention.sum(axis=-1), 1, atol=1e-5)


# Three quarters of a minute each on JAX, which compiles.
_SLOW = [pytest.mark.slow] if keras.backend.backend() == "jax" else []


@pytest.mark.parametrize(
    "dtype, num_labels",
    [
        pytest.param("float32", 1, marks=_SLOW),
        ("float32", 3),
        pytest.param("mixed_float16", 3, marks=_SLOW),
        pytest.param("mixed_bfloat16", 3, marks=_SLOW),
    ],
)
def test_a_step_on_any_images_and_labels_leaves_finite_weights(dtype, num_labels):
    # In a batch of one colour every variance that batch norms take is 0.
    keras.utils.set_random_seed(0)
    model = small_classifier(num_labels=num_labels, dtype=dtype)
    model.compile("sgd", losses.WeakNegative(), **EAGERLY)
    start = model.get_weights()

    @drawn.FEW
    @given(images(), st.data())
    def check(pixels, data):
        model.set_weights(start)
        labels = data.draw(drawn.labels((len(pixels), num_labels)))
        assert np.isfinite(model.train_on_batch(pixels, labels))
        assert all(np.isfinite(weight).all() for weight in model.get_weights())

    check()


def calls_of(model):
    """What takes an array of images, by name."""
    return {
        "fit": lambda x, y: model.fit(x, y, verbose=0),
        "evaluate": lambda x, y: model.evaluate(x, y, verbose=0),
        "predict": lambda x, y: model.predict(x, verbose=0),
        "explain": lambda x, y: model.explain(x, ["logits"]),
        "explain all": lambda x, y: model.explain(x),
    }


@pytest.mark.parametrize("name", ["patch_model", "resnet"])
def test_the_first_bad_image_is_named_before_a_weight_changes(name, request):
    model = request.getfixturevalue(name)
    before = model.get_weights()

    @drawn.MANY
    @given(
        st.sampled_from(sorted(calls_of(model))),
        st.sampled_from(["float16", "float32", "float64"]),
        st.sampled_from([np.nan, np.inf, -np.inf, -1.0, 256.0]),
        st.lists(st.integers(0, 3), min_size=1, max_size=2),
        st.tuples(st.integers(0, 31), st.integers(0, 31), st.integers(0, 2)),
    )
    def check(call, dtype, value, indices, place):
        pixels = small_images().astype(dtype)
        for index in indices:
            pixels[(index, *place)] = value
        what = "has values from" if np.isfinite(value) else "has 1 values that are NaN or infinite"
        with pytest.raises(ValueError, match=f"image of index {min(indices)}, .*{what}"):
            calls_of(model)[call](pixels, np.zeros((4, 3), "int8"))

    check()
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(new, old)
