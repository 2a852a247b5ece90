import numpy as np
import pytest

from keras_patchpu.metrics import attention_heatmap, localization

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
    assert localization(attention, boxes, [[1]], target, (8, 8))["peak_in_box"] == 1.0


def test_heatmap_keeps_leading_axes_and_the_sum():
    attention = np.random.default_rng(0).dirichlet(np.ones(5), size=(2, 3))
    heat = attention_heatmap(attention, BOXES, (6, 8))
    assert heat.shape == (2, 3, 6, 8)
    np.testing.assert_allclose(heat.sum(axis=(2, 3)), 1.0, rtol=1e-5)


def test_patches_smaller_than_a_pixel_keep_their_attention():
    boxes = np.array([[0, 0, 0.1, 0.1], [0, 0, 1, 1]])
    heat = attention_heatmap([1.0, 0.0], boxes, (2, 2))
    np.testing.assert_allclose(heat, [[1, 0], [0, 0]])


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
    result = localization(attention, BOXES, labels, boxes, (8, 8))
    assert result["peak_in_box"] == pytest.approx(2 / 3)
    assert result["attention_in_box"] == pytest.approx((0.6 + 0.4 / 4 + 0 + 1) / 3, abs=1e-6)
    assert result["box_area"] == pytest.approx(1 / 4)


def test_peak_is_the_middle_of_the_patch_not_its_corner():
    # A box inside the first quarter, around its middle but not its corner.
    boxes = np.array([[[0.2, 0.2, 0.3, 0.3]]])
    result = localization(np.eye(5)[None, :1], BOXES, [[1]], boxes, (64, 64))
    assert result["peak_in_box"] == 1.0


@pytest.mark.parametrize(
    ("labels", "boxes", "message"),
    [
        (np.ones((1, 2)), np.ones((1, 1, 4)), "Received: shapes"),
        (np.zeros((1, 1)), np.ones((1, 1, 4)), "at least one present label"),
    ],
)
def test_bad_arguments(labels, boxes, message):
    with pytest.raises(ValueError, match=message):
        localization(np.ones((1, 1, 5)), BOXES, labels, boxes, (4, 4))
