"""ROLE: against Cole et al.'s code, and the estimates' way under Adam by hand."""

import functools

import keras
import numpy as np
import pytest
from backend import FEW_STEPS, gradient, numpy, weight_gradients
from keras import ops
from reference import CASES, ROUNDING
from small import small_classifier, small_images

from keras_patchpu.losses import RegularizedOnlineLabelEstimation

pytestmark = pytest.mark.usefixtures("few_blocks")

EPSILON = 1e-5
LABELS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 1], [0, 0, 0]], "int8")


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, "float64")))


def reference_case(arrays, case):
    """Loss with the reference's estimates, its labels, and the images' numbers.

    The batch's images are some of more, not in their order.
    """
    estimates = arrays[f"{case}/est_logits"]
    batch, num_labels = estimates.shape
    image_index = 3 + np.random.default_rng(0).permutation(batch)
    loss = RegularizedOnlineLabelEstimation(batch + 5, num_labels, float(arrays[f"{case}/k"]))
    logits = np.full((batch + 5, num_labels), 7.0)
    logits[image_index] = estimates
    loss.estimator.label_logits.assign(logits)
    return loss, arrays[f"{case}/z"], image_index


@pytest.mark.parametrize("case", CASES)
def test_reference(golden, case):
    arrays = golden("losses")
    loss, labels, image_index = reference_case(arrays, case)
    rtol, atol, gradient_tolerance = ROUNDING[case]
    logits = arrays[f"{case}/logits"].astype("float32")

    def value(logits):
        y_pred = {"probabilities": ops.sigmoid(logits), "image_index": image_index}
        return loss(labels, y_pred)

    expected = arrays[f"{case}/role/loss"]
    found = numpy(value(ops.convert_to_tensor(logits)))
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)

    expected = arrays[f"{case}/role/grad"]
    tolerance = gradient_tolerance * np.abs(expected).max()
    np.testing.assert_allclose(gradient(value, logits), expected, rtol=0, atol=tolerance)

    expected = arrays[f"{case}/role/grad_est"]
    (slope,) = weight_gradients(loss.estimator, lambda: value(ops.convert_to_tensor(logits)))
    tolerance = gradient_tolerance * np.abs(expected).max()
    np.testing.assert_allclose(slope[image_index], expected, rtol=0, atol=tolerance)
    others = np.setdiff1d(np.arange(len(slope)), image_index)
    np.testing.assert_array_equal(slope[others], 0)


def role_by_hand(labels, predicted, estimates, expected_positives):
    """Loss of a batch of probabilities and estimated log-odds, in NumPy."""
    present, estimated = labels > 0, sigmoid(estimates)

    def half(learning, target):
        losses = -(present + target) * np.log(learning + EPSILON)
        losses = losses - (1 - target) * np.log(1 - learning + EPSILON)
        predicted = learning.sum(axis=1).mean()
        return losses.mean() + ((predicted - expected_positives) / labels.shape[1]) ** 2

    return (half(predicted, estimated) + half(estimated, predicted)) / 2


def slope_by_hand(labels, predicted, estimates, expected_positives):
    """Its gradient by the estimated log-odds, derived on paper."""
    present, estimated = labels > 0, sigmoid(estimates)
    slope = (1 - predicted) / (1 - estimated + EPSILON)
    slope = (slope - (present + predicted) / (estimated + EPSILON)) / labels.size
    surplus = estimated.sum(axis=1).mean() - expected_positives
    slope = slope + 2 * surplus / labels.shape[1] ** 2 / len(labels)
    return 0.5 * slope * estimated * (1 - estimated)


def adam_by_hand(values, moments, slope, step, learning_rate):
    """One step of Kingma and Ba's Adam on all of `values`, in place; epsilon 1e-7."""
    first, second = moments
    first += 0.1 * (slope - first)
    second += 0.001 * (slope**2 - second)
    corrected = np.sqrt(second / (1 - 0.999**step)) + 1e-7
    values -= learning_rate * first / (1 - 0.9**step) / corrected


def test_gradients_by_hand_are_those_of_the_loss_by_hand():
    random = np.random.default_rng(1)
    predicted, estimates = random.uniform(0.1, 0.9, LABELS.shape), random.normal(size=LABELS.shape)
    slope = slope_by_hand(LABELS, predicted, estimates, 1.5)
    # The network's half also knows the estimates, but as constants: the difference is left out.
    for place in [(0, 0), (1, 2), (3, 0), (4, 1)]:
        half = []
        for change in (1e-6, -1e-6):
            moved = estimates.copy()
            moved[place] += change
            value = role_by_hand(LABELS, predicted, moved, 1.5)
            estimated = sigmoid(moved)
            taught = -estimated * np.log(predicted + EPSILON)
            taught = taught - (1 - estimated) * np.log(1 - predicted + EPSILON)
            half.append(value - taught.mean() / 2)
        assert (half[0] - half[1]) / 2e-6 == pytest.approx(slope[place], rel=1e-5)


def test_the_estimates_under_adam_go_the_way_computed_by_hand():
    loss = RegularizedOnlineLabelEstimation(5, 3, expected_positives=1.5, seed=3)
    loss.start_from(LABELS)
    variable = loss.estimator.label_logits
    optimizer = keras.optimizers.Adam(0.05)
    values = numpy(variable.value).astype("float64")
    moments = np.zeros_like(values), np.zeros_like(values)
    random = np.random.default_rng(0)
    batches = [[0, 1], [3, 2], [1], [2, 0], [3, 1]]  # image 4 is in none
    after = [values.copy()]
    for step, batch in enumerate(batches, start=1):
        labels, batch = LABELS[batch], np.array(batch)
        predicted = random.uniform(0.05, 0.95, (len(batch), 3)).astype("float32")
        y_pred = {"probabilities": predicted, "image_index": batch}
        expected = role_by_hand(labels, predicted, values[batch], 1.5)
        assert numpy(loss(labels, y_pred)) == pytest.approx(expected, rel=1e-5)
        slopes = weight_gradients(loss.estimator, functools.partial(loss, labels, y_pred))
        optimizer.apply([ops.convert_to_tensor(slope) for slope in slopes], [variable])

        slope = np.zeros_like(values)
        slope[batch] = slope_by_hand(labels, predicted, values[batch], 1.5)
        adam_by_hand(values, moments, slope, step, 0.05)
        # float32 knows 1 - beta_2^t to four or five digits only; a step is 0.05.
        np.testing.assert_allclose(numpy(variable.value), values, rtol=0, atol=1e-4)
        after.append(values.copy())
    # Adam is dense: a row whose image is not in the batch has a gradient of zeros, so its moments
    # decay and it goes on moving by them; a row that never had a gradient stays where it was.
    assert (after[2][0] != after[1][0]).all()
    np.testing.assert_array_equal(after[-1][4], after[0][4])
    assert np.abs(after[-1][:4] - after[0][:4]).max() > 0.1


def test_fit_trains_network_and_estimates():
    images, rows = small_images(), np.array([4, 0, 2, 1])
    labels = LABELS[rows]
    model = small_classifier()
    loss = RegularizedOnlineLabelEstimation(5, 3, expected_positives=1.5, seed=3)
    model.compile(keras.optimizers.SGD(1.0), loss, **FEW_STEPS)
    codebook = model.codebook_attention_pool.codebook
    codebook_before = numpy(codebook.value).copy()
    before, estimates = model.get_weights(), numpy(loss.estimator.label_logits.value).copy()
    predicted = numpy(model(images, training=True)["probabilities"])
    # Looking at them moved the statistics.
    model.set_weights(before)
    y = {"labels": labels, "image_index": rows}
    history = model.fit(images, y, batch_size=4, shuffle=False, verbose=0)

    expected = role_by_hand(labels, predicted.astype("float64"), estimates[rows], 1.5)
    assert history.history["loss"][0] == pytest.approx(expected, rel=1e-4)
    slope = np.zeros(estimates.shape)
    slope[rows] = slope_by_hand(labels, predicted, estimates[rows], 1.5)
    assert np.abs(slope).max() > 0.01
    found = numpy(loss.estimator.label_logits.value)
    np.testing.assert_allclose(found - estimates, -slope, rtol=1e-3, atol=1e-5)
    assert not np.array_equal(numpy(codebook.value), codebook_before)


def test_the_estimates_are_saved_with_the_model(tmp_path):
    model = small_classifier()
    loss = RegularizedOnlineLabelEstimation(5, 3, expected_positives=1.5)
    loss.start_from(LABELS)
    model.compile(keras.optimizers.Adam(0.05), loss, **FEW_STEPS)
    model.fit(small_images(), {"labels": LABELS[:4], "image_index": np.arange(4)}, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    estimates = numpy(loss.estimator.label_logits.value)
    np.testing.assert_array_equal(numpy(loaded.loss.estimator.label_logits.value), estimates)
    assert np.abs(estimates[0]).max() > 1


def test_first_estimates():
    loss = RegularizedOnlineLabelEstimation(5, 3, expected_positives=1.5, seed=1)
    first = sigmoid(numpy(loss.estimator.label_logits.value))
    assert (0.4 <= first).all() and (first <= 0.6).all()
    assert first.std() > 0.02
    again = RegularizedOnlineLabelEstimation(5, 3, expected_positives=1.5, seed=1)
    np.testing.assert_array_equal(sigmoid(numpy(again.estimator.label_logits.value)), first)
    loss.start_from(LABELS)
    expected = np.where(LABELS > 0, 0.995, np.where(LABELS < 0, 0.005, first))
    started = sigmoid(numpy(loss.estimator.label_logits.value))
    np.testing.assert_allclose(started, expected, rtol=1e-5)
    # Of images in any order, with their numbers as integers or floats.
    for index in (np.array([3, 0]), np.array([3.0, 0.0], "float32")):
        np.testing.assert_allclose(numpy(loss.estimator(index)), expected[[3, 0]], rtol=1e-5)


def test_the_estimator_as_a_layer():
    loss = RegularizedOnlineLabelEstimation(5, 3, expected_positives=1.5, seed=1)
    estimator = loss.estimator
    assert estimator.get_config() | {"name": None, "dtype": None} == {
        "name": None,
        "trainable": True,
        "dtype": None,
        "num_images": 5,
        "num_labels": 3,
        "seed": 1,
    }
    again = type(estimator).from_config(estimator.get_config())
    np.testing.assert_array_equal(
        numpy(again.label_logits.value), numpy(estimator.label_logits.value)
    )
    assert estimator(keras.Input((), dtype="int32")).shape == (None, 3)
    assert estimator.compute_output_shape((4,)) == (4, 3)
    # Half precision of a model does not round the estimates.
    keras.config.set_dtype_policy("mixed_float16")
    half = RegularizedOnlineLabelEstimation(5, 3, expected_positives=1.5, seed=1).estimator
    assert keras.backend.standardize_dtype(half(np.arange(2)).dtype) == "float32"
    np.testing.assert_array_equal(numpy(half(np.arange(2))), numpy(estimator(np.arange(2))))


def test_an_observed_negative_is_unknown_to_the_loss_itself():
    loss = RegularizedOnlineLabelEstimation(1, 3, expected_positives=1.5, seed=0)
    y_pred = {"probabilities": np.array([[0.2, 0.7, 0.4]], "float32"), "image_index": [0]}
    assert numpy(loss(np.array([[1, 0, -1]]), y_pred)) == numpy(loss(np.array([[1, 0, 0]]), y_pred))


def test_sample_weight():
    arguments = {"num_images": 5, "num_labels": 3, "expected_positives": 1.5, "seed": 0}
    predicted = np.random.default_rng(0).uniform(0.1, 0.9, (5, 3)).astype("float32")
    y_pred = {"probabilities": predicted, "image_index": np.arange(5)}
    images = numpy(RegularizedOnlineLabelEstimation(**arguments, reduction=None)(LABELS, y_pred))
    assert images.shape == (5,)
    weight = np.array([2.0, 0.0, 1.0, 0.0, 0.5], "float32")
    loss = RegularizedOnlineLabelEstimation(**arguments)
    value = numpy(loss(LABELS, y_pred, sample_weight=weight))
    assert value == pytest.approx((images * weight).sum() / 5, rel=1e-5)


@pytest.mark.parametrize("labels", [LABELS[:4], LABELS[:, :2], LABELS[0]])
def test_labels_of_another_shape_are_refused(labels):
    loss = RegularizedOnlineLabelEstimation(5, 3, expected_positives=1.5)
    with pytest.raises(ValueError, match=r"`labels` of shape \(5, 3\).*Received: shape"):
        loss.start_from(labels)


@pytest.mark.parametrize("y_pred", [np.zeros((5, 3)), {"probabilities": np.zeros((5, 3))}])
def test_other_predictions_than_the_dict_are_explained(y_pred):
    loss = RegularizedOnlineLabelEstimation(5, 3, expected_positives=1.5)
    with pytest.raises(ValueError, match=r"RegularizedOnlineLabelEstimation expects `y_pred`"):
        loss(LABELS, y_pred)
