"""Pseudo-labels of EM+APL: whom they choose, what they write, how they go on."""

import numpy as np
import pytest

from keras_patchpu.callbacks import PseudoLabels
from keras_patchpu.utils.validation import FileError

# Label 0 is unknown in four of five images, label 1 in all, label 2 in three.
LABELS = np.array([[1, 0, 0], [0, 0, 1], [0, 0, -1], [0, 0, 0], [0, 0, 0]], "int8")
PREDICTED = np.array(
    [[0.1, 0.5, 0.9], [0.2, 0.1, 0.1], [0.6, 0.4, 0.1], [0.3, 0.2, 0.8], [0.4, 0.3, 0.7]],
    "float32",
)


class FixedModel:
    """Says what it is told, and counts how often."""

    def __init__(self, predicted):
        self.predicted = predicted
        self.calls = 0

    def predict(self, images, **_):
        self.calls += 1
        return self.predicted


def pseudo_labels(**changes):
    arguments = {"num_epochs": 4, "warmup_epochs": 2, "share": 0.9}
    return PseudoLabels(np.arange(5), LABELS, **(arguments | changes))


def test_the_least_probable_unknown_labels_get_targets():
    # A share of 0.9 in two parts: int(0.9 * 4 / 2) = 1, int(0.9 * 5 / 2) = 2, 1 of each label.
    memory = pseudo_labels()
    memory.add(PREDICTED)
    expected = np.full((5, 3), -1, "float32")
    expected[1, 0] = 0.2  # 0.1 belongs to an observed label
    expected[[1, 3], 1] = 0.1, 0.2
    expected[4, 2] = 0.7  # 0.1 belongs to observed labels, and 0.8 comes later
    np.testing.assert_array_equal(memory.pseudo_labels, expected)
    # Targets are kept; the next ones come on top, from other predictions.
    memory.add(1 - PREDICTED)
    expected[2, 0] = 0.4  # the rest of label 0: 0.4, 0.7, 0.6
    expected[[0, 2], 1] = 0.5, 0.6  # 0.5, 0.6, 0.7
    expected[0, 2] = 0.1  # 0.1 and 0.2
    np.testing.assert_allclose(memory.pseudo_labels, expected, rtol=1e-6)
    found = memory.targets(np.array([3, 0]))
    assert list(found) == ["pseudo_labels"] and found["pseudo_labels"].dtype == np.float32
    np.testing.assert_allclose(found["pseudo_labels"], expected[[3, 0]], rtol=1e-6)
    np.testing.assert_array_equal(memory.labels, LABELS)


def test_targets_of_zero_and_one_are_kept_and_observed_labels_have_none():
    memory = pseudo_labels(share=1.0, num_epochs=3)
    predicted = np.tile(np.array([0.0, 1.0, 0.5], "float32"), (5, 1))
    for _ in range(2):  # nothing is left for a second time
        memory.add(predicted)
        np.testing.assert_array_equal(memory.pseudo_labels, np.where(LABELS == 0, predicted, -1))


@pytest.mark.parametrize(
    "arguments, epochs",
    [
        ({"num_epochs": 5, "warmup_epochs": 3}, [3, 4]),
        ({"num_epochs": 10, "warmup_epochs": None}, [5, 6, 7, 8, 9]),
        ({"num_epochs": 5, "warmup_epochs": None}, [2, 3, 4]),
        ({"num_epochs": 1, "warmup_epochs": None}, []),
        ({"num_epochs": 3, "warmup_epochs": 7}, []),
    ],
)
def test_epochs_after_which_there_are_new_targets(arguments, epochs):
    memory = pseudo_labels(**arguments)
    model = FixedModel(PREDICTED)
    memory.set_model(model)
    asked = []
    for epoch in range(arguments["num_epochs"]):
        before = model.calls
        memory.on_epoch_end(epoch)
        asked += [epoch + 1] * (model.calls - before)
    assert asked == epochs


def test_share_of_labels_with_a_target_in_the_end():
    labels = np.zeros((100, 2), "int8")
    labels[:40, 0] = 1
    memory = PseudoLabels(None, labels, num_epochs=6, warmup_epochs=1, share=0.5)
    memory.set_model(FixedModel(np.random.default_rng(0).random((100, 2)).astype("float32")))
    for epoch in range(6):
        memory.on_epoch_end(epoch)
    # Half of 60 and of 100, in five parts of 6 and 10.
    np.testing.assert_array_equal((memory.pseudo_labels >= 0).sum(axis=0), [30, 50])


def test_goes_on_from_what_was_saved(tmp_path):
    memory = pseudo_labels(warmup_epochs=1)
    memory.set_model(FixedModel(PREDICTED))
    after = {}
    for epoch in range(3):
        memory.on_epoch_end(epoch)
        after[epoch + 1] = memory.pseudo_labels.copy()
        if epoch == 1:
            memory.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["pseudo_labels.npy"]
    assert (after[1] != after[2]).any()
    again = pseudo_labels(warmup_epochs=1)
    again.load(tmp_path)
    np.testing.assert_array_equal(again.pseudo_labels, after[2])
    again.set_model(FixedModel(PREDICTED))
    again.on_epoch_end(2)
    np.testing.assert_array_equal(again.pseudo_labels, after[3])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileError, match=r"to go on from. Missing: .*pseudo_labels\.npy"):
        pseudo_labels().load(tmp_path)


def test_a_file_that_is_damaged_or_of_other_images_is_named(tmp_path):
    path = tmp_path / "pseudo_labels.npy"
    np.save(path, LABELS[:4].astype("float32"))
    with pytest.raises(FileError, match=r"labels.npy .* \(5, 3\). Received: .*\(4, 3\)"):
        pseudo_labels().load(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FileError, match="labels.npy is cut off or damaged"):
        pseudo_labels().load(tmp_path)


@pytest.mark.parametrize(
    "name, value",
    [
        ("num_epochs", 0),
        ("num_epochs", 1.5),
        ("warmup_epochs", 0),
        ("warmup_epochs", "2"),
        ("share", -0.1),
        ("share", 1.1),
        ("share", None),
    ],
)
def test_bad_arguments(name, value):
    with pytest.raises(ValueError, match=f"`{name}`"):
        pseudo_labels(**{name: value})
