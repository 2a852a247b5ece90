"""EN, EN+CL and EN+SCL: by hand, and their gradients by finite differences in NumPy."""

import numpy as np
import pytest
from backend import gradient, numpy

from keras_patchpu.losses import ExpectedNegative

EPSILON = 1e-5
LABELS = np.array([[1, 0, 0, -1], [0, 1, 0, 0]], "int8")
P = np.array([[0.75, 0.5, 0.2, 0.4], [0.125, 0.5, 0.25, 0.6]], "float32")
# The second label of the first image and the first of the second are expected to be present;
# what is said of observed labels must not count.
EXPECTED_NEGATIVES = np.array([[1, 0, 1, 0], [0, 1, 1, 1]], "float32")
AVERAGE = np.array([[0.5, 0.5, 0.1, 0.4], [0.5, 0.75, 0.0, 1.0]], "float32")
# Maps of 1x2 places.
SCORES = np.random.default_rng(0).normal(size=(2, 1, 2, 4)).astype("float32")
AVERAGE_MAPS = np.random.default_rng(1).uniform(size=(2, 1, 2, 4)).astype("float32")
EN_NEEDS = {"probabilities", "epoch", "expected_negatives"}
NEEDS = {
    None: EN_NEEDS,
    "predictions": EN_NEEDS | {"average"},
    "score_maps": EN_NEEDS | {"score_maps", "average_maps"},
}
every_consistency = pytest.mark.parametrize("consistency", NEEDS)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, "float64")))


def predictions(consistency, epoch=1.0, **changes):
    """What a loss with this consistency takes as `y_pred`."""
    everything = {
        "probabilities": P,
        "epoch": np.array(epoch, "float32"),
        "expected_negatives": EXPECTED_NEGATIVES,
        "average": AVERAGE,
        "score_maps": SCORES,
        "average_maps": AVERAGE_MAPS,
        **changes,
    }
    return {name: everything[name] for name in NEEDS[consistency]}


def en_by_hand(labels, p, expected_negatives, warm):
    """Matrix (B, L) of EN's terms, label by label."""
    losses = np.zeros(labels.shape)
    for place, label in np.ndenumerate(labels):
        if label == 1:
            losses[place] = -np.log(p[place] + EPSILON)
        elif label == -1 or not warm or expected_negatives[place] == 1:
            losses[place] = -np.log(1 - p[place] + EPSILON)
    return losses


def distances_by_hand(p, average, distance):
    if distance == "squared":
        return (p - average) ** 2
    present, absent = np.log(p + EPSILON), np.log(1 - p + EPSILON)
    return -(average * present) - (1 - average) * absent


def values_by_hand(consistency, p, scores, weight=0.0, distance="squared", warm=True):
    """Matrix (B, L): loss of each label of each image."""
    losses = en_by_hand(LABELS, p, EXPECTED_NEGATIVES, warm)
    if consistency is None or not warm:
        return losses
    if consistency == "predictions":
        return losses + weight * distances_by_hand(p, AVERAGE.astype("float64"), distance)
    of_places = distances_by_hand(sigmoid(scores), AVERAGE_MAPS.astype("float64"), distance)
    return losses + weight * of_places.mean(axis=(1, 2))


def test_expected_negative_of_one_image_by_hand():
    loss = ExpectedNegative(label_reduction="sum", epsilon=1e-9)
    y_pred = {
        "probabilities": P[:1],
        "epoch": 1,
        "expected_negatives": EXPECTED_NEGATIVES[:1],
    }
    # Present 0.75; 0.5 is expected to be present; 0.2 a negative; 0.4 an observed one.
    expected = -np.log(0.75) - np.log(0.8) - np.log(0.6)
    assert numpy(loss(LABELS[:1], y_pred)) == pytest.approx(expected, rel=1e-5)
    # In the warm-up 0.5 is a negative, too.
    expected = expected - np.log(0.5)
    assert numpy(loss(LABELS[:1], {**y_pred, "epoch": 0})) == pytest.approx(expected, rel=1e-5)


def test_distances_of_one_label_by_hand():
    y_pred = {
        "probabilities": np.array([[0.75]], "float32"),
        "epoch": 1,
        "expected_negatives": np.zeros((1, 1), "float32"),
        "average": np.array([[0.25]], "float32"),
    }
    unknown = np.zeros((1, 1), "int8")
    loss = ExpectedNegative("predictions", consistency_weight=3.0)
    assert numpy(loss(unknown, y_pred)) == pytest.approx(3 * 0.25, rel=1e-5)
    loss = ExpectedNegative("predictions", 3.0, "crossentropy", epsilon=1e-9)
    expected = 3 * (-0.25 * np.log(0.75) - 0.75 * np.log(0.25))
    assert numpy(loss(unknown, y_pred)) == pytest.approx(expected, rel=1e-5)
    # Two places, of probability 1/2 and 3/4, with averages of 1/4 and 3/4.
    maps = {
        **{name: y_pred[name] for name in EN_NEEDS},
        "score_maps": np.array([0, np.log(3)], "float32").reshape(1, 1, 2, 1),
        "average_maps": np.array([0.25, 0.75], "float32").reshape(1, 1, 2, 1),
    }
    loss = ExpectedNegative("score_maps", consistency_weight=3.0)
    assert numpy(loss(unknown, maps)) == pytest.approx(3 * 0.25**2 / 2, rel=1e-5)


@every_consistency
def test_what_it_needs(consistency):
    assert set(ExpectedNegative(consistency).needs) == NEEDS[consistency]


@pytest.mark.parametrize("label_reduction", ["mean", "sum"])
@pytest.mark.parametrize("distance", ["squared", "crossentropy"])
@every_consistency
def test_values(consistency, distance, label_reduction):
    arguments = {
        "consistency_weight": 0.5,
        "distance": distance,
        "label_reduction": label_reduction,
    }
    y_pred = predictions(consistency)
    losses = values_by_hand(consistency, P.astype("float64"), SCORES, 0.5, distance)
    expected = losses.mean(axis=1) if label_reduction == "mean" else losses.sum(axis=1)
    found = ExpectedNegative(consistency, **arguments, reduction=None)(LABELS, y_pred)
    np.testing.assert_allclose(numpy(found), expected, rtol=1e-5)
    total = numpy(ExpectedNegative(consistency, **arguments)(LABELS, y_pred))
    assert total == pytest.approx(expected.mean(), rel=1e-5)


@pytest.mark.parametrize("warmup_epochs", [1, 3])
@every_consistency
def test_warm_up(consistency, warmup_epochs):
    loss = ExpectedNegative(consistency, warmup_epochs=warmup_epochs, reduction=None)
    for epoch in range(5):
        warm = epoch >= warmup_epochs
        expected = values_by_hand(consistency, P.astype("float64"), SCORES, 1.0, warm=warm).mean(
            axis=1
        )
        for given in (epoch, float(epoch), np.array(epoch, "float32")):
            found = numpy(loss(LABELS, predictions(consistency, given)))
            np.testing.assert_allclose(found, expected, rtol=1e-5)


def differences(function, x, step=1e-5):
    """Gradient of a scalar function in NumPy by central differences in float64."""
    x = np.asarray(x, "float64")
    slope = np.zeros(x.shape)
    for place in np.ndindex(*x.shape):
        high, low = x.copy(), x.copy()
        high[place] += step
        low[place] -= step
        slope[place] = (function(high) - function(low)) / (2 * step)
    return slope


@pytest.mark.parametrize("distance", ["squared", "crossentropy"])
@every_consistency
def test_gradients(consistency, distance):
    loss = ExpectedNegative(consistency, consistency_weight=0.5, distance=distance)
    expected = differences(
        lambda p: values_by_hand(consistency, p, SCORES, 0.5, distance).mean(), P
    )
    found = gradient(lambda x: loss(LABELS, predictions(consistency, probabilities=x)), P)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    if consistency == "score_maps":
        p = P.astype("float64")
        expected = differences(
            lambda s: values_by_hand(consistency, p, s, 0.5, distance).mean(), SCORES
        )
        found = gradient(lambda x: loss(LABELS, predictions(consistency, score_maps=x)), SCORES)
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_labels_expected_to_be_present_are_left_alone():
    slope = gradient(lambda x: ExpectedNegative()(LABELS, predictions(None, probabilities=x)), P)
    left_alone = (LABELS == 0) & (EXPECTED_NEGATIVES == 0)
    np.testing.assert_array_equal(slope == 0, left_alone)
    assert (slope[LABELS == 1] < 0).all()
    assert (slope[(LABELS != 1) & ~left_alone] > 0).all()


@every_consistency
def test_sample_weight(consistency):
    images = numpy(ExpectedNegative(consistency, reduction=None)(LABELS, predictions(consistency)))
    weighted = ExpectedNegative(consistency)(
        LABELS, predictions(consistency), sample_weight=np.array([3.0, 0.5], "float32")
    )
    assert numpy(weighted) == pytest.approx((3 * images[0] + 0.5 * images[1]) / 2, rel=1e-5)


@every_consistency
def test_other_predictions_than_the_dict_are_explained(consistency):
    y_pred = predictions(consistency)
    del y_pred["expected_negatives"]
    for wrong in (y_pred, P):
        with pytest.raises(ValueError, match="ExpectedNegative expects.*'expected_negatives'"):
            ExpectedNegative(consistency)(LABELS, wrong)
