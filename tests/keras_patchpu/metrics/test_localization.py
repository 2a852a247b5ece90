import numpy as np
import pytest

from keras_patchpu.metrics import AttentionHeat, ScoreMapHeat, attention_heatmap, localization

# Four quarters of an image, then the whole image.
BOXES = np.array(
    [[0, 0, 0.5, 0.5], [0, 0.5, 0.5, 1], [0.5, 0, 1, 0.5], [0.5, 0.5, 1, 1], [0, 0, 1, 1]]
)


def test_heatmap_by_hand():
    heat = attention_heatmap([0.5, 0.1, 0.0, 0.0, 0.4], BOXES, (4, 4))
    expected = np.full((4, 4), 0.4 / 16)
    expected[:2, :2] += 0.5 / 4
    expected[:2, 2:] += 0.1 / 4
    np.testing.assert_allclose(heat, expected, rtol=1e-6)
    assert heat.sum() == pytest.approx(1.0)


def test_heatmap_of_the_papers_picture_by_hand():
    heat = attention_heatmap([0.5, 0.1, 0.0, 0.0, 0.4], BOXES, (4, 4), fill="same")
    expected = np.full((4, 4), 0.4)
    expected[:2, :2] += 0.5
    expected[:2, 2:] += 0.1
    np.testing.assert_allclose(heat, expected, rtol=1e-6)


def test_the_peak_is_judged_with_large_patches_counting_in_full():
    # Quarters 1 and 4 differ by 0.02; a patch over the right half adds 0.1 to the latter.
    boxes = np.concatenate([BOXES[:4], [[0, 0.5, 1, 1]]])
    attention = np.array([[[0.32, 0.19, 0.09, 0.3, 0.1]]])
    target = np.array([[[0.5, 0.5, 1, 1]]])
    heat = AttentionHeat(attention, boxes, (8, 8))
    assert localization(heat, [[1]], target)["peak_in_box"] == 1.0


def test_heatmap_keeps_leading_axes_and_the_sum():
    attention = np.random.default_rng(0).dirichlet(np.ones(5), size=(2, 3))
    heat = attention_heatmap(attention, BOXES, (6, 8))
    assert heat.shape == (2, 3, 6, 8)
    np.testing.assert_allclose(heat.sum(axis=(2, 3)), 1.0, rtol=1e-5)


def test_patches_smaller_than_a_pixel_keep_their_attention():
    boxes = np.array([[0, 0, 0.1, 0.1], [0, 0, 1, 1], [0.9, 0.9, 1, 1]])
    heat = attention_heatmap([0.75, 0.0, 0.25], boxes, (2, 2))
    np.testing.assert_allclose(heat, [[0.75, 0], [0, 0.25]])


def test_heatmap_names_a_wrong_fill():
    with pytest.raises(ValueError, match="`fill`.*'even'"):
        attention_heatmap(np.ones(5), BOXES, (4, 4), fill="even")


def test_heatmap_wants_a_box_for_each_patch():
    with pytest.raises(ValueError, match=r"\(3, 4\).*Received: shape \(5, 4\)"):
        attention_heatmap(np.ones(3), BOXES, (4, 4))


def test_localization_by_hand():
    labels = np.array([[1, 0], [1, 1]])
    attention = np.zeros((2, 2, 5))
    attention[0, 0] = [0.6, 0.0, 0.0, 0.0, 0.4]  # peak: middle of the first quarter
    attention[0, 1] = [0.0, 0.0, 0.0, 0.0, 1.0]  # absent: not judged
    attention[1, 0] = [0.0, 1.0, 0.0, 0.0, 0.0]  # looks at the second quarter
    attention[1, 1] = [0.0, 0.0, 0.0, 1.0, 0.0]
    boxes = np.zeros((2, 2, 4))
    boxes[0, 0] = [0, 0, 0.5, 0.5]
    boxes[1, 0] = [0.5, 0.5, 1, 1]  # but the object is in the fourth
    boxes[1, 1] = [0.5, 0.5, 1, 1]
    heat = AttentionHeat(attention, BOXES, (8, 8))
    result = localization(heat, labels, boxes, label_names=["a", "b"])
    assert result["peak_in_box"] == pytest.approx(2 / 3)
    assert result["attention_in_box"] == pytest.approx((0.6 + 0.4 / 4 + 0 + 1) / 3, abs=1e-6)
    assert result["box_area"] == pytest.approx(1 / 4)
    counts = {"labels_without_box": 0, "labels_without_heat": 0}
    assert result["per_label"] == [
        {
            "label": "a",
            "peak_in_box": 0.5,
            "attention_in_box": pytest.approx(0.35, abs=1e-6),
            "box_area": 0.25,
            "labels": 2,
            **counts,
        },
        {
            "label": "b",
            "peak_in_box": 1.0,
            "attention_in_box": 1.0,
            "box_area": 0.25,
            "labels": 1,
            **counts,
        },
    ]
    pairs = result["pairs"]
    assert pairs["row"].tolist() == [0, 1, 1] and pairs["column"].tolist() == [0, 0, 1]
    assert pairs["peak_in_box"].tolist() == [True, False, True]
    np.testing.assert_allclose(pairs["attention_in_box"], [0.7, 0, 1], atol=1e-6)


def test_peak_is_the_middle_of_the_patch_not_its_corner():
    # A box inside the first quarter, around its middle but not its corner.
    boxes = np.array([[[0.2, 0.2, 0.3, 0.3]]])
    heat = AttentionHeat(np.eye(5)[None, :1], BOXES, (64, 64))
    assert localization(heat, [[1]], boxes)["peak_in_box"] == 1.0


def one_map(values, boxes, size=None):
    """Localization of one map `(h, w)` against the boxes of one label."""
    values = np.asarray(values, "float32")
    heat = ScoreMapHeat(values[None, :, :, None], size or values.shape)
    return localization(heat, [[1]], [np.array(boxes)], [np.zeros(len(boxes), int)])


def test_the_peak_may_be_in_any_box_of_the_label():
    values = np.zeros((4, 4))
    values[3, 3] = 1.0  # its middle: 7 / 8, 7 / 8
    far, near = [0, 0, 0.5, 0.5], [0.75, 0.75, 1, 1]
    assert one_map(values, [far])["peak_in_box"] == 0.0
    assert one_map(values, [far, near])["peak_in_box"] == 1.0
    assert one_map(values, [near, far])["peak_in_box"] == 1.0


def test_where_boxes_overlap_counts_once():
    values = np.full((4, 4), 1.0)
    values[1, 1] = 5.0  # 20 in all
    # Rows 0-2 of columns 0-1, and rows 1-2 of columns 0-3: 6 + 8 - 4 = 10 cells, one hot.
    result = one_map(values, [[0, 0, 0.75, 0.5], [0.25, 0, 0.75, 1]])
    assert result["box_area"] == pytest.approx(10 / 16)
    assert result["attention_in_box"] == pytest.approx((10 - 1 + 5) / 20)
    # A box inside another adds nothing; nor does the same box twice.
    alone = one_map(values, [[0, 0, 0.75, 0.5]])
    assert alone["box_area"] == pytest.approx(6 / 16)
    inner = one_map(values, [[0, 0, 0.75, 0.5], [0.25, 0, 0.5, 0.25], [0, 0, 0.75, 0.5]])
    assert inner["box_area"] == pytest.approx(6 / 16)
    assert inner["attention_in_box"] == pytest.approx(alone["attention_in_box"])


def test_a_cell_that_a_box_cuts_counts_in_part():
    result = one_map([[3, 1], [0, 0]], [[0.25, 0, 0.75, 0.625]])
    # Half of the cell of 3, a quarter of a half of the cell of 1.
    assert result["attention_in_box"] == pytest.approx((3 / 2 + 1 / 8) / 4)
    assert result["box_area"] == pytest.approx(0.5 * 0.625)


def test_a_peak_on_the_edge_of_a_box_is_outside():
    values = np.zeros((4, 4))
    values[1, 1] = 1.0  # middle at 3 / 8, 3 / 8
    assert one_map(values, [[0.375, 0, 1, 1]])["peak_in_box"] == 0.0
    assert one_map(values, [[0, 0, 1, 0.375]])["peak_in_box"] == 0.0
    assert one_map(values, [[0.374, 0, 1, 0.376]])["peak_in_box"] == 1.0


def test_of_equal_peaks_the_first_counts():
    values = np.zeros((4, 4))
    values[0, 0] = values[3, 3] = 1.0
    assert one_map(values, [[0, 0, 0.5, 0.5]])["peak_in_box"] == 1.0
    assert one_map(values, [[0.5, 0.5, 1, 1]])["peak_in_box"] == 0.0
    # Equal neighbours: the middle of both, at x = 1 / 4.
    values[0, 1] = 1.0
    assert one_map(values, [[0, 0.2, 0.25, 0.3]])["peak_in_box"] == 1.0


def test_the_peak_of_a_resized_map():
    # 2x2 to 8x8: the largest value is held from the middle of its cell, 3 / 4, to the corner.
    values = [[0, 0], [0, 1]]
    assert one_map(values, [[0.85, 0.85, 0.9, 0.9]], (8, 8))["peak_in_box"] == 1.0
    # 3x3 to 6x6: the middle of the inner cell lies between two pixels of equal value.
    values = [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert one_map(values, [[0.49, 0.49, 0.51, 0.51]], (6, 6))["peak_in_box"] == 1.0


def test_a_map_of_zeros_finds_nothing():
    result = one_map(np.zeros((2, 2)), [[0, 0, 1, 1]])
    assert (result["peak_in_box"], result["attention_in_box"]) == (0.0, 0.0)
    assert (result["box_area"], result["labels"], result["labels_without_heat"]) == (1.0, 1, 1)


def test_labels_without_box_are_left_out_and_counted():
    labels = np.array([[1, 1, -1], [0, 1, -1]])
    heat = ScoreMapHeat(np.ones((2, 2, 2, 3)), (2, 2))
    boxes = [np.array([[0, 0, 0.5, 1], [0.2, 0.2, 0.2, 0.9]]), np.zeros((0, 4))]
    # In image 0 label 1 has a box without area; in image 1 it has none at all.
    result = localization(heat, labels, boxes, [np.array([0, 1]), np.zeros(0, int)])
    assert (result["labels"], result["labels_without_box"]) == (1, 2)
    assert result["attention_in_box"] == pytest.approx(0.5)
    zero, one, two = result["per_label"]
    assert (zero["labels"], zero["labels_without_box"], zero["box_area"]) == (1, 0, 0.5)
    assert (one["labels"], one["labels_without_box"], one["peak_in_box"]) == (0, 2, None)
    assert (two["labels"], two["labels_without_box"], two["box_area"]) == (0, 0, None)


def test_as_over_pixels():
    # Against maps of pixels, for patches of two sizes that do not share all edges.
    random = np.random.default_rng(3)
    patches = np.array([[0, 0, 0.5, 0.5], [0.25, 0.25, 1, 1], [0, 0, 1, 1], [0.5, 0, 0.75, 0.25]])
    attention = random.dirichlet(np.ones(4), size=(3, 2))
    corners = np.sort(random.integers(0, 17, size=(3, 2, 2, 2)), axis=2) / 16
    boxes = corners.reshape(3, 2, 4)
    boxes[..., 2:] += 1 / 16
    labels = np.ones((3, 2), int)
    pairs = localization(AttentionHeat(attention, patches, (32, 16)), labels, boxes)["pairs"]
    shared = attention_heatmap(attention, patches, (32, 16))
    middles = [(np.arange(side) + 0.5) / side for side in (32, 16)]
    for row, column, share, area in zip(
        *(pairs[name] for name in ("row", "column", "attention_in_box", "box_area"))
    ):
        y_min, x_min, y_max, x_max = boxes[row, column]
        inside = np.outer(
            (middles[0] > y_min) & (middles[0] < y_max), (middles[1] > x_min) & (middles[1] < x_max)
        )
        assert share == pytest.approx(shared[row, column][inside].sum(), abs=1e-6)
        assert area == pytest.approx(inside.mean())


@pytest.mark.parametrize(
    ("labels", "boxes", "box_labels", "message"),
    [
        (np.ones((1, 2)), np.ones((1, 2, 4)), None, r"\(1, 2\). Received: \(1, 1\)"),
        (np.ones((1, 1)), np.ones((1, 2, 4)), None, r"\(1, 1, 4\).*Received: shape \(1, 2, 4\)"),
        (np.ones((1, 1)), [], [], "of 1 images. Received: 0 and 0"),
        (np.zeros((1, 1)), np.ones((1, 1, 4)), None, "at least one present label"),
        (np.ones((1, 1)), np.zeros((1, 1, 4)), None, "a box for at least one"),
    ],
)
def test_bad_arguments(labels, boxes, box_labels, message):
    heat = AttentionHeat(np.ones((1, 1, 5)), BOXES, (4, 4))
    with pytest.raises(ValueError, match=message):
        localization(heat, labels, boxes, box_labels)
