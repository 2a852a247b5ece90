import pathlib

import numpy as np
import pytest

from keras_patchpu.metrics import average_precision, label_metrics, mean_average_precision

GOLDEN = np.load(pathlib.Path(__file__).parents[2] / "data" / "map.npz")


def test_equals_scikit_learn_and_published_code():
    values = average_precision(GOLDEN["labels"], GOLDEN["scores"])
    np.testing.assert_allclose(values, GOLDEN["ap_sklearn"], rtol=0, atol=1e-12)
    with pytest.warns(UserWarning, match=r"\[7\]"):
        mean = mean_average_precision(GOLDEN["labels"], GOLDEN["scores"])
    assert mean * 100 == pytest.approx(float(GOLDEN["map_cole"]), abs=1e-10)


def test_float32_scores():
    values = average_precision(GOLDEN["labels"], GOLDEN["scores"].astype("float32"))
    np.testing.assert_allclose(values, GOLDEN["ap_sklearn_f32scores"], rtol=0, atol=1e-12)


def test_by_hand():
    # Ranked: present, absent, present. Precision at the two hits: 1 and 2/3.
    values = average_precision([[1], [0], [1]], [[0.9], [0.8], [0.7]])
    np.testing.assert_allclose(values, [(1 + 2 / 3) / 2])


def test_observed_negatives_count_as_absent():
    labels = np.array([[1], [-1], [0]])
    scores = np.array([[0.2], [0.9], [0.1]])
    np.testing.assert_allclose(average_precision(labels, scores), [0.5])


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        (np.ones((3, 2)), np.ones((3, 3)), "one shape"),
        (np.ones(3), np.ones(3), "one shape"),
        (np.ones((0, 2)), np.ones((0, 2)), "one shape"),
        (np.ones((2, 1)), np.array([[1.0], [np.nan]]), "finite `scores`"),
    ],
)
def test_bad_arguments(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        average_precision(labels, scores)


def test_label_metrics_by_hand():
    labels = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
    scores = np.array([[0.9, 0.6, 0.1], [0.4, 0.7, 0.2], [0.5, 0.8, 0.3], [0.1, 0.2, 0.6]])
    result = label_metrics(labels, scores, ["a", "b", "c"])
    # At 0.5: label a hits 1, wrong 1, missed 1; b hits 2, wrong 1; c wrong 1.
    assert result["micro"]["precision"] == pytest.approx(3 / 6)
    assert result["micro"]["recall"] == pytest.approx(3 / 4)
    assert result["micro"]["f1"] == pytest.approx(2 * 3 / (6 + 4))
    assert result["macro"]["precision"] == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert result["macro"]["recall"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert result["macro"]["f1"] == pytest.approx((1 / 2 + 4 / 5 + 0) / 3)
    assert result["labels_without_positives"] == ["c"]
    assert result["mean_predicted_labels"] == 6 / 4
    assert result["mean_true_labels"] == 4 / 4
    # Label a, ranked: present, absent, present, absent. Label b: present, present.
    assert [row["average_precision"] for row in result["per_label"]] == pytest.approx(
        [(1 + 2 / 3) / 2, 1.0, 0.0]
    )
    assert result["mAP"] == pytest.approx(((1 + 2 / 3) / 2 + 1) / 3)
    assert [row["positives"] for row in result["per_label"]] == [2, 2, 0]


def test_label_metrics_of_one_label():
    result = label_metrics(np.array([[1], [1], [0]]), np.array([[0.9], [0.1], [0.8]]))
    assert result["micro"] == pytest.approx({"precision": 0.5, "recall": 0.5, "f1": 0.5})
    assert result["macro"] == result["micro"]
    assert result["per_label"][0]["label"] == "0"


def test_label_metrics_wants_a_name_for_each_label():
    with pytest.raises(ValueError, match="2 names. Received: 1"):
        label_metrics(np.ones((1, 2)), np.ones((1, 2)), ["a"])


def test_never_above_one():
    # Nine positives, six of them tied: scikit-learn's sum over thresholds is 1 + 2e-16.
    scores = np.array([0, 0, 0, 0, 0, 0, 0.25, 1, 17.0])[:, None]
    np.testing.assert_array_equal(average_precision(np.ones((9, 1)), scores), [1.0])
