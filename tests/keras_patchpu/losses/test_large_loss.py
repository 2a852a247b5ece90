"""LL-R, LL-Ct and LL-Cp: against the authors' code and by hand."""

import keras
import numpy as np
import pytest
from backend import FEW_STEPS, HAS_FLOAT64, gradient, numpy
from keras import ops
from reference import CASES, FLOAT64, ROUNDING_OF_LOGITS, check_reference, log_odds
from small import small_classifier, small_images

from keras_patchpu.losses import LargeLoss

pytestmark = pytest.mark.usefixtures("few_blocks")

SCHEMES = {"ll_r": "reject", "ll_ct": "correct_temporarily", "ll_cp": "correct_permanently"}
# Epochs counted from 0 with the reference's clean rate, and the increase.
EPOCHS = {"": (4, 0.002), "_heavy": (5, 0.02), "_first": (0, 0.002)}
NAMES = [name + variant for name in SCHEMES for variant in EPOCHS]


def reference_case(name, **kwargs):
    """Loss object and epoch of a loss of the reference."""
    scheme = next(key for key in sorted(SCHEMES, reverse=True) if name.startswith(key))
    epoch, increase = EPOCHS[name.removeprefix(scheme)]
    return LargeLoss(SCHEMES[scheme], increase, **kwargs), epoch


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_reference_in_float32(golden, case, name):
    arrays = golden("losses")
    loss, epoch = reference_case(name)
    labels = arrays[f"{case}/z"]
    predict = log_odds(epoch=epoch)
    check_reference(loss, labels, arrays, case, name, ROUNDING_OF_LOGITS[case], predict)


@pytest.mark.skipif(not HAS_FLOAT64, reason="the backend has no exact float64")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_reference_in_float64(golden, case, name):
    arrays = golden("losses")
    loss, epoch = reference_case(name, dtype="float64")
    labels, predict = arrays[f"{case}/z"], log_odds(epoch=epoch)
    # The reference's gradient of corrected labels is off by 1.5e-8 of itself.
    tolerances = (*FLOAT64[:2], 5e-9)
    check_reference(loss, labels, arrays, case, name, tolerances, predict, dtype="float64")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_corrections_of_the_reference(golden, case, name):
    # The reference keeps what lies strictly above the last label corrected; ties with that one
    # are corrected here too.
    arrays = golden("losses")
    loss, epoch = reference_case(name)
    logits = arrays[f"{case}/logits"].astype("float32")
    mask = numpy(loss.corrections(arrays[f"{case}/z"], logits, epoch))
    count = int(arrays[f"{case}/{name}/hp/num_modified_k"])
    if count == 0:
        assert not mask.any()
        return
    assert mask.sum() >= count
    above = arrays[f"{case}/{name}/corr"].astype(bool)
    assert above.sum() < count
    assert mask[above].all()
    smallest = logits[mask].min()
    np.testing.assert_array_equal(logits[mask & ~above], smallest)


LABELS = np.array([[1, 0, 0, 0], [0, 0, -1, 1]], "int8")
LOGITS = np.array([[-3, 2, -1, 0], [1, -2, 4, 5]], "float32")
# Unknown labels by loss: (0, 1), (1, 0), (0, 3), (0, 2), (1, 1).
RANKED = [(0, 1), (1, 0), (0, 3), (0, 2), (1, 1)]


def softplus(x):
    return np.logaddexp(0, np.asarray(x, "float64"))


@pytest.mark.parametrize(
    "scheme, epoch, count",
    [
        ("reject", 0, 0),
        ("reject", 1, 1),  # 0.1 * 8 labels, rounded up
        ("reject", 2, 2),
        ("correct_temporarily", 3, 3),
        ("reject", 5, 4),  # 0.5 * 8 exactly
        ("reject", 8, 5),  # more than there are unknown labels
        ("reject", 80, 5),
        ("correct_permanently", 0, 0),
        ("correct_permanently", 1, 1),
        ("correct_permanently", 80, 1),
    ],
)
def test_by_hand(scheme, epoch, count):
    loss = LargeLoss(scheme, 0.1, label_reduction="sum", reduction=None)
    mask = np.zeros(LABELS.shape, bool)
    for place in RANKED[:count]:
        mask[place] = True
    np.testing.assert_array_equal(numpy(loss.corrections(LABELS, LOGITS, epoch)), mask)
    expected = np.where(LABELS == 1, softplus(-LOGITS), softplus(LOGITS))
    expected = np.where(mask, 0 if scheme == "reject" else softplus(-LOGITS), expected)
    y_pred = {"logits": LOGITS, "epoch": epoch}
    np.testing.assert_allclose(numpy(loss(LABELS, y_pred)), expected.sum(axis=1), rtol=1e-5)
    mean = LargeLoss(scheme, 0.1)
    assert numpy(mean(LABELS, y_pred)) == pytest.approx(expected.mean(), rel=1e-5)


def test_ties_are_corrected_together():
    labels, logits = np.zeros((2, 3), "int8"), np.array([[1, 2, 1], [1, 0, -1]], "float32")
    loss = LargeLoss("reject", 1 / 3)  # two of six
    np.testing.assert_array_equal(
        numpy(loss.corrections(labels, logits, 1)), [[True, True, True], [True, False, False]]
    )


def test_observed_labels_are_never_corrected():
    # The largest losses by far are observed.
    labels = np.array([[1, -1, 0]], "int8")
    loss = LargeLoss("reject", 1.0)
    mask = loss.corrections(labels, np.array([[-50, 50, -9]], "float32"), 1)
    np.testing.assert_array_equal(numpy(mask), [[False, False, True]])
    mask = loss.corrections(np.array([[1, -1]]), np.zeros((1, 2), "float32"), 1)
    np.testing.assert_array_equal(numpy(mask), [[False, False]])


def test_nothing_observed():
    labels = np.zeros(LABELS.shape, "int8")
    y_pred = {"logits": LOGITS, "epoch": 1}
    value = numpy(LargeLoss("reject", 0.1, label_reduction="sum")(labels, y_pred))
    # The largest, of logit 5, is rejected.
    assert value == pytest.approx((softplus(LOGITS).sum() - softplus(5)) / 2, rel=1e-5)


@pytest.mark.parametrize("epoch", range(1, 11))
def test_shares_that_are_whole_numbers_are_not_rounded_up(epoch):
    # 0.1, 0.2, ... 1.0 of 10 labels, none of which float32 holds exactly.
    logits = np.arange(10, dtype="float32")[None]
    mask = LargeLoss("reject", 0.1).corrections(np.zeros((1, 10)), logits, epoch)
    np.testing.assert_array_equal(numpy(mask)[0], np.arange(10) >= 10 - epoch)


def test_gradient_by_hand():
    probabilities = 1 / (1 + np.exp(-LOGITS.astype("float64")))
    for scheme, instead in (("reject", 0.0), ("correct_temporarily", probabilities - 1)):
        loss = LargeLoss(scheme, 0.1, label_reduction="sum")
        slope = gradient(lambda x, loss=loss: loss(LABELS, {"logits": x, "epoch": 3}), LOGITS)
        expected = np.where(LABELS == 1, probabilities - 1, probabilities)
        for place in RANKED[:3]:
            expected[place] = np.broadcast_to(instead, LABELS.shape)[place]
        np.testing.assert_allclose(slope, expected / 2, atol=1e-6)


def test_permanent_corrections_are_kept_by_image():
    # One of four labels is corrected in each batch of one image.
    loss = LargeLoss("correct_permanently", 0.25, 3, 4, label_reduction="sum")
    found = loss.estimator.found
    labels = np.array([[1, 0, 0, -1]], "int8")

    def value(image, logits, epoch):
        y_pred = {"logits": logits, "epoch": epoch, "image_index": np.array([image])}
        return numpy(loss(labels, y_pred))

    first = np.array([[2.0, 3.0, 1.0, 9.0]], "float32")
    softplus_of = dict(zip("abcd", softplus(first[0])))
    flipped_of = dict(zip("abcd", softplus(-first[0])))
    # Epoch 0: nothing is corrected. (Label a is observed present, d observed absent.)
    absent = softplus_of["b"] + softplus_of["c"] + softplus_of["d"]
    assert value(2, first, 0) == pytest.approx(flipped_of["a"] + absent, rel=1e-5)
    np.testing.assert_array_equal(numpy(found.value), np.zeros((3, 4)))
    # Epoch 1: b has the largest loss of the unknown.
    corrected = flipped_of["a"] + flipped_of["b"] + softplus_of["d"]
    assert value(2, first, 1) == pytest.approx(corrected + softplus_of["c"], rel=1e-5)
    np.testing.assert_array_equal(numpy(found.value), [[0] * 4, [0] * 4, [0, 1, 0, 0]])
    # Later b counts as present, and c is corrected besides; of image 0 again b alone.
    assert value(2, first, 2) == pytest.approx(corrected + flipped_of["c"], rel=1e-5)
    assert value(0, first, 2) == pytest.approx(corrected + softplus_of["c"], rel=1e-5)
    np.testing.assert_array_equal(numpy(found.value), [[0, 1, 0, 0], [0] * 4, [0, 1, 1, 0]])
    # Nothing unknown is left, and what was corrected stays so in epoch 0, too.
    assert value(2, first, 0) == pytest.approx(corrected + flipped_of["c"], rel=1e-5)


def test_permanent_corrections_in_fit_are_saved_with_the_model(tmp_path):
    images, rows = small_images(), np.array([4, 0, 2, 1])
    labels = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]], "int8")
    model = small_classifier()
    model.compile("sgd", LargeLoss("correct_permanently", 0.25, 5, 3), **FEW_STEPS)
    y = {"labels": labels, "image_index": rows}
    arguments = {"batch_size": 4, "shuffle": False, "verbose": 0}
    model.fit(images, y, epochs=1, **arguments)
    assert not numpy(model.loss.estimator.found.value).any()
    before = [numpy(weight) for weight in model.weights]
    logits = numpy(model(images, training=True)["logits"])
    for weight, value in zip(model.weights, before):
        weight.assign(value)
    model.fit(images, y, initial_epoch=1, epochs=2, **arguments)

    # 3 of 12: the unknown labels of the largest log-odds.
    ranked = np.sort(np.where(labels == 0, logits, -np.inf).ravel())
    mask = (labels == 0) & (logits >= ranked[-3])
    expected = np.zeros((5, 3))
    expected[rows] = mask
    found = numpy(model.loss.estimator.found.value)
    np.testing.assert_array_equal(found, expected)
    model.fit(images, y, initial_epoch=2, epochs=3, **arguments)
    found = numpy(model.loss.estimator.found.value)
    assert found.sum() == 6
    assert (found >= expected).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(loaded.loss.estimator.found.value), found)


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_images": 5},
        {"num_labels": 5},
        {"scheme": "correct_temporarily", "num_images": 5, "num_labels": 3},
        {"scheme": "reject", "num_images": 5, "num_labels": 3},
    ],
)
def test_a_memory_is_for_permanent_corrections_alone(arguments):
    with pytest.raises(ValueError, match="Expected `num_images`.*Received"):
        LargeLoss(**{"scheme": "correct_permanently", **arguments})


def test_compiled_with_the_epoch_as_a_tensor():
    loss = LargeLoss("correct_temporarily", 0.1)

    def value(logits, epoch):
        return loss(LABELS, {"logits": logits, "epoch": epoch})

    backend, function = keras.backend.backend(), value
    if backend == "jax":
        import jax

        function = jax.jit(value)
    elif backend == "tensorflow":
        import tensorflow as tf

        signature = [tf.TensorSpec((None, 4)), tf.TensorSpec(())]
        function = tf.function(value, input_signature=signature, jit_compile=True)
    for epoch in (0.0, 1.0, 3.0, 80.0):
        result = function(ops.convert_to_tensor(LOGITS), ops.convert_to_tensor(epoch, "float32"))
        expected = numpy(value(LOGITS, epoch))
        assert numpy(result) == pytest.approx(float(expected), rel=1e-5)


def test_sample_weight():
    y_pred = {"logits": LOGITS, "epoch": 1}
    images = numpy(LargeLoss("reject", 0.1, reduction=None)(LABELS, y_pred))
    weighted = LargeLoss("reject", 0.1)(LABELS, y_pred, sample_weight=np.array([0.0, 3.0]))
    assert numpy(weighted) == pytest.approx(3 * images[1] / 2, rel=1e-5)


def test_other_predictions_than_the_dict_are_explained():
    with pytest.raises(ValueError, match=r"LargeLoss expects.*'epoch'.*Received: \['logits'\]"):
        LargeLoss()(LABELS, {"logits": LOGITS})
