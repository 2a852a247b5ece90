"""The single-positive draw, number for number as published."""

import numpy as np
import pytest

from keras_patchpu.datasets import observe_uniform

pytestmark = pytest.mark.no_backend


@pytest.mark.parametrize(
    "name, source, arguments",
    [
        ("obs", "labels", {}),
        ("obs_val", "labels_val", {}),
        ("obs_pos1_neg1", "labels", {"num_positives": 1, "num_negatives": 1}),
        ("obs_pos2", "labels", {"num_positives": 2}),
        ("obs_seed999", "labels", {"seed": 999}),
    ],
)
def test_reference(golden, name, source, arguments):
    arrays = golden("observed")
    observed = observe_uniform(arrays[source], **arguments)
    assert observed.dtype == np.int8
    np.testing.assert_array_equal(observed, arrays[name])


def test_an_image_with_fewer_labels_has_all_of_them_observed():
    labels = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]])
    observed = observe_uniform(labels, num_positives=2, num_negatives=2)
    np.testing.assert_array_equal((observed == 1).sum(axis=1), [0, 1, 2, 2])
    np.testing.assert_array_equal((observed == -1).sum(axis=1), [2, 2, 1, 0])
    assert (labels[observed == 1] == 1).all()
    assert (labels[observed == -1] == 0).all()


def test_each_label_is_equally_likely():
    observed = observe_uniform(np.tile([1, 0, 1, 1], (3000, 1)))
    counts = (observed == 1).sum(axis=0)
    assert counts[1] == 0 and counts.sum() == 3000
    # Five standard deviations of 3000 draws of probability one third.
    assert np.abs(counts[[0, 2, 3]] - 1000).max() < 5 * np.sqrt(3000 * 2 / 9)


def test_labels_are_not_changed():
    labels = np.array([[1, 1, 0]])
    observe_uniform(labels)
    np.testing.assert_array_equal(labels, [[1, 1, 0]])


@pytest.mark.parametrize(
    "labels", [[1, 0], [[1, -1]], [[0, 2]], [[0.5, 1]], np.zeros((1, 2, 2))], ids=str
)
def test_other_labels_than_0_and_1_are_explained(labels):
    with pytest.raises(ValueError, match="`labels` to be a two-dimensional array of 0 and 1"):
        observe_uniform(labels)


@pytest.mark.parametrize("argument", ["num_positives", "num_negatives"])
@pytest.mark.parametrize("value", [-1, 1.5, "1"])
def test_bad_counts_are_explained(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}`.*{argument}="):
        observe_uniform([[1, 0]], **{argument: value})
