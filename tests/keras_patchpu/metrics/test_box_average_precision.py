import numpy as np
import pytest

from keras_patchpu.metrics import AttentionHeat, ScoreMapHeat, box_average_precision, heat_boxes

GRID = np.arange(5) / 4  # edges of 4 cells


def heat_of(*maps):
    """Heat maps `(4, 4)` of one label, one an image."""
    return ScoreMapHeat(np.array(maps, "float32")[..., None], (4, 4))


def filled(*areas):
    """A map `(4, 4)` of the areas `(top, left, bottom, right, value)`."""
    values = np.zeros((4, 4), "float32")
    for top, left, bottom, right, value in areas:
        values[top:bottom, left:right] = value
    return values


def one_label(maps, scores, boxes, **kwargs):
    """Mean AP of one label that is present where it has boxes."""
    scores = np.array(scores)[:, None]
    labels = np.array([[1 if len(found) else 0] for found in boxes])
    boxes = [np.array(found, float).reshape(-1, 4) for found in boxes]
    box_labels = [np.zeros(len(found), int) for found in boxes]
    return box_average_precision(heat_of(*maps), scores, labels, boxes, box_labels, **kwargs)


# === Boxes of a map ===


def test_boxes_of_a_map_by_hand():
    values = filled((0, 0, 2, 2, 4.0), (1, 1, 2, 2, 2.0), (3, 2, 4, 4, 3.0), (2, 3, 3, 4, 1.0))
    boxes, strengths = heat_boxes(values, GRID, GRID)
    np.testing.assert_allclose(boxes, [[0, 0, 0.5, 0.5], [0.75, 0.5, 1, 1]])
    np.testing.assert_allclose(strengths, [(4 * 3 + 2) / 4 / 4, 3 / 4])
    # A higher cut leaves less of the first and nothing of the second.
    boxes, strengths = heat_boxes(values, GRID, GRID, cut=0.8)
    np.testing.assert_allclose(boxes, [[0, 0, 0.5, 0.5]])
    np.testing.assert_allclose(strengths, [1])


def test_corners_do_not_connect():
    boxes, _ = heat_boxes(filled((0, 0, 1, 1, 1.0), (1, 1, 2, 2, 1.0)), GRID, GRID)
    np.testing.assert_allclose(boxes, [[0, 0, 0.25, 0.25], [0.25, 0.25, 0.5, 0.5]])


def test_mean_heat_of_cells_of_two_sizes():
    # Half the image in one cell of 1, a quarter in one of 0.6.
    boxes, strengths = heat_boxes(np.array([[1.0, 0.6, 0.1]]), [0, 1], [0, 0.5, 0.75, 1])
    np.testing.assert_allclose(boxes, [[0, 0, 1, 0.75]])
    np.testing.assert_allclose(strengths, [(0.5 * 1 + 0.25 * 0.6) / 0.75])


def test_a_map_of_zeros_has_no_boxes():
    boxes, strengths = heat_boxes(np.zeros((4, 4)), GRID, GRID)
    assert boxes.shape == (0, 4) and strengths.shape == (0,)


# === Average precision ===


def test_a_box_that_fits():
    result = one_label([filled((0, 0, 2, 2, 7.0))], [0.9], [[(0, 0, 0.5, 0.5)]])
    np.testing.assert_allclose(result["mean"], [[1.0, 1.0]])
    assert result["true_boxes"].tolist() == [1] and result["found_boxes"].tolist() == [1]


def test_intersection_over_union_by_hand():
    # Found 2x2 cells, true 2x4: 4 / 8 = 0.5, which is enough; true 2x4.2: not at 0.5.
    maps = [filled((0, 0, 2, 2, 1.0))]
    np.testing.assert_allclose(one_label(maps, [0.9], [[(0, 0, 0.5, 1)]])["mean"], [[1, 1]])
    np.testing.assert_allclose(one_label(maps, [0.9], [[(0, 0, 0.525, 1)]])["mean"], [[1, 0]])
    # Shifted by one cell each way: 1 / 7.
    result = one_label(maps, [0.9], [[(0.25, 0.25, 0.75, 0.75)]], ious=(1 / 7, 0.15))
    np.testing.assert_allclose(result["mean"], [[1, 0]])


def test_precision_and_recall_by_hand():
    fits, misses = filled((0, 0, 2, 2, 1.0)), filled((2, 2, 4, 4, 1.0))
    box = [(0, 0, 0.5, 0.5)]
    # By confidence: right, wrong (label absent), right, wrong place, of 4 true boxes:
    # precision 1, 1/2, 2/3, 2/4 at recall 1/4, 1/4, 2/4, 2/4.
    result = one_label(
        [fits, fits, fits, misses, fits],
        [0.9, 0.8, 0.7, 0.6, 0.01],  # the last is below the floor
        [box, [], box, box, box],
    )
    np.testing.assert_allclose(result["mean"], [[(1 + 2 / 3) / 4] * 2])
    assert result["found_boxes"].tolist() == [4]
    # Made monotone: wrong first, then two right: precision 1/2, 2/3 becomes 2/3 for both.
    result = one_label([misses, fits, fits], [0.9, 0.8, 0.7], [box, box, box])
    np.testing.assert_allclose(result["mean"], [[2 / 3 * 2 / 3] * 2])


def test_a_lower_floor_finds_more():
    fits, box = filled((0, 0, 2, 2, 1.0)), [(0, 0, 0.5, 0.5)]
    for min_score, expected in ((0.05, 0.5), (0.01, 1.0)):
        result = one_label([fits, fits], [0.9, 0.01], [box, box], min_score=min_score)
        np.testing.assert_allclose(result["mean"], [[expected] * 2])


def test_a_true_box_is_found_once():
    # Two areas in one true box: at a low threshold the hotter takes it, the other is wrong.
    maps = [filled((0, 0, 2, 4, 1.0), (3, 0, 4, 4, 0.8))]
    result = one_label(maps, [0.9], [[(0, 0, 1, 1)]], ious=(0.2, 0.6))
    np.testing.assert_allclose(result["mean"], [[1.0, 0.0]])
    # And the second of two true boxes is not found.
    result = one_label(maps, [0.9], [[(0, 0, 0.5, 1), (0, 0, 0.45, 1)]])
    np.testing.assert_allclose(result["mean"], [[0.5, 0.5]])


def test_two_boxes_of_a_label_by_confidence():
    maps = [filled((0, 0, 2, 2, 1.0), (3, 3, 4, 4, 0.8)), filled((0, 0, 2, 2, 1.0))]
    true = [[(0, 0, 0.5, 0.5), (0.75, 0.75, 1, 1)], []]
    # Confidences 0.9, 0.72 and, wrong, 0.8: precision 1, 1/2, 2/3.
    result = one_label(maps, [0.9, 0.8], true)
    np.testing.assert_allclose(result["mean"], [[(1 + 2 / 3) / 2] * 2])
    # 0.9, 0.72 and 0.7: both come first.
    result = one_label(maps, [0.9, 0.7], true)
    np.testing.assert_allclose(result["mean"], [[1.0] * 2])


def test_equal_confidences_have_no_order():
    fits, box = filled((0, 0, 2, 2, 1.0)), [(0, 0, 0.5, 0.5)]
    for true in ([box, []], [[], box]):
        result = one_label([fits, fits], [0.9, 0.9], true)
        np.testing.assert_allclose(result["mean"], [[0.5, 0.5]])


def test_each_cut_by_itself():
    # From 0.3 on the whole row, from 0.5 on its left half.
    values = filled((0, 0, 1, 2, 1.0), (0, 2, 1, 4, 0.4))
    result = one_label([values], [0.9], [[(0, 0, 0.25, 1)]], cuts=[0.3, 0.5], ious=(0.5, 0.6))
    np.testing.assert_allclose(result["mean"], [[1, 1], [1, 0]])


def test_labels_without_boxes_are_left_out_of_the_mean():
    # Label 0: right. Label 1: present, but nobody knows where. Label 2: absent, yet found.
    maps = np.stack([filled((0, 0, 2, 2, 1.0))] * 3, axis=-1)[None]
    boxes, box_labels = [np.array([[0, 0, 0.5, 0.5]])], [np.array([0])]
    result = box_average_precision(
        ScoreMapHeat(maps, (4, 4)), np.full((1, 3), 0.9), [[1, 1, -1]], boxes, box_labels
    )
    np.testing.assert_allclose(result["mean"], [[1, 1]])
    np.testing.assert_array_equal(result["per_label"][0], [[1, np.nan, np.nan]] * 2)
    assert result["true_boxes"].tolist() == [1, 0, 0]
    assert result["found_boxes"].tolist() == [2]  # not of label 1


def test_a_label_whose_place_is_not_known_does_no_harm():
    # Two images of the label, one of them without a box: found there, but not judged.
    fits = filled((0, 0, 2, 2, 1.0))
    boxes, box_labels = [np.zeros((0, 4)), np.array([[0, 0, 0.5, 0.5]])], [[], np.array([0])]
    result = box_average_precision(
        heat_of(fits, fits), [[0.9], [0.8]], [[1], [1]], boxes, box_labels
    )
    np.testing.assert_allclose(result["mean"], [[1, 1]])


def test_attention_and_one_box_a_label():
    patches = np.array([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0, 0, 1, 1]])
    attention = np.array([[[0.7, 0.1, 0.2], [0.1, 0.6, 0.3]]])
    boxes = np.array([[[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5]]])
    result = box_average_precision(
        AttentionHeat(attention, patches, (8, 8)), [[0.9, 0.8]], [[1, 1]], boxes
    )
    np.testing.assert_allclose(result["per_label"], [[[1, 0], [1, 0]]])
    np.testing.assert_allclose(result["mean"], [[0.5, 0.5]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [[1, 1]]}, "one shape"),
        ({"labels": [[1, 1]], "scores": [[0.5, 0.5]]}, r"\(1, 2\). Received: \(1, 1\)"),
        ({"scores": [[np.nan]]}, "finite `scores`"),
        ({"boxes": np.zeros((1, 1, 3))}, r"\(1, 1, 4\)"),
        ({"boxes": np.zeros((1, 1, 4))}, "a box for at least one present label"),
        ({"labels": [[0]]}, "a box for at least one present label"),
        ({"cuts": 0}, "`cuts`.*> 0"),
        ({"cuts": [0.5, 1.5]}, "`cuts`.*<= 1"),
        ({"ious": (0.5, 2)}, "`ious`.*<= 1"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {
        "heat": heat_of(np.ones((4, 4))),
        "scores": [[0.5]],
        "labels": [[1]],
        "boxes": np.array([[[0, 0, 1, 1]]]),
    }
    with pytest.raises(ValueError, match=message):
        box_average_precision(**{**arguments, **change})
