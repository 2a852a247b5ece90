"""Pictures of results: what is in the arrays and on the axes, and what is refused."""

import numpy as np
import pytest
from figures import is_drawable, rectangles

from keras_patchpu.metrics import ScoreMapHeat
from keras_patchpu.visualize import (
    attention_overlay,
    draw_localization_extremes,
    draw_negatives_quality,
)

pytestmark = pytest.mark.no_backend

QUALITY = [
    {"epoch": 1, "precision": 0.9, "recall": 0.8, "auc": 0.5, "absent_share": 0.9}
    | {"mean_weight_absent": 0.8, "mean_weight_present": 0.7},
    {"epoch": 2, "precision": 0.95, "recall": 0.7, "auc": 0.75, "absent_share": 0.9}
    | {"mean_weight_absent": 0.7, "mean_weight_present": 0.4},
]


def lines_of(axes):
    """Values of the lines by the names in the legend."""
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == [line.get_label() for line in axes.lines]
    return {line.get_label(): line.get_ydata().tolist() for line in axes.lines}


def test_negatives_quality_left_and_mean_weights_right():
    figure = draw_negatives_quality(QUALITY)
    assert is_drawable(figure)
    left, right = figure.axes
    assert lines_of(left) == {
        "precision": [0.9, 0.95],
        "recall": [0.8, 0.7],
        "AUC": [0.5, 0.75],
        "share of absent labels": [0.9, 0.9],
    }
    assert lines_of(right) == {"truly absent": [0.8, 0.7], "present, not observed": [0.7, 0.4]}
    assert left.lines[0].get_xdata().tolist() == [1, 2]


def test_negatives_quality_of_the_columns_of_a_run():
    rows = [
        {"epoch": "1", "loss": "2.5", "wn_precision": "0.9", "wn_recall": "0.8", "wn_auc": "nan"},
        {"epoch": "2", "loss": "2.1", "wn_precision": "", "wn_recall": "0.7", "wn_auc": None},
    ]
    (axes,) = draw_negatives_quality(rows).axes
    lines = lines_of(axes)
    assert lines["recall"] == [0.8, 0.7] and list(lines) == ["precision", "recall", "AUC"]
    np.testing.assert_array_equal(lines["precision"], [0.9, np.nan])
    np.testing.assert_array_equal(lines["AUC"], [np.nan, np.nan])


@pytest.mark.parametrize("rows", [[], [{"epoch": 1, "precision": 1.0, "recall": 1.0}]])
def test_negatives_quality_refuses(rows):
    with pytest.raises(ValueError, match="at least one row.*'auc'"):
        draw_negatives_quality(rows)


# === draw_localization_extremes ===

# Three images of 2x2 pixels and two labels: the left half is the box of label 0, the right half
# that of label 1.
LEFT, RIGHT = [0, 0, 1, 0.5], [0, 0.5, 1, 1]
BOXES = np.array([[LEFT, RIGHT]] * 3)
MAPS = np.array([[[1.0, 3.0], [1.0, 3.0]], [[4.0, 0.0], [4.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
PAIRS = {
    "row": np.array([0, 0, 1, 2]),
    "column": np.array([0, 1, 0, 1]),
    "attention_in_box": np.array([0.25, 0.75, 1.0, 0.0]),
    "box_area": np.full(4, 0.5),
}


def extremes(asked=None, **changes):
    def image_of(row):
        if asked is not None:
            asked.append(row)
        return np.full((2, 2, 3), 50 * row, "uint8")

    heat = ScoreMapHeat(np.stack([MAPS] * 2, axis=-1), (2, 2))
    arguments = {"image_of": image_of, "heat": heat, "pairs": PAIRS, "boxes": BOXES}
    return draw_localization_extremes(**{**arguments, **changes})


def test_best_above_and_worst_below():
    asked = []
    figure = extremes(asked, label_names=["cat", "dog"], count=2, heat_name="Grad-CAM")
    assert is_drawable(figure)
    *panels, bar = figure.axes
    assert [axes.get_title() for axes in panels] == [
        "cat\n100% inside (even: 50%)",
        "dog\n75% inside (even: 50%)",
        "dog\n0% inside (even: 50%)",
        "cat\n25% inside (even: 50%)",
    ]
    assert asked == [1, 0, 2, 0]
    assert [axes.get_ylabel() for axes in panels] == ["best located", "", "worst located", ""]
    assert bar.get_ylabel() == "Grad-CAM of the label"
    # Each on its own image, under its own heat, with its own box.
    overlay = attention_overlay(np.full((2, 2, 3), 50), MAPS[1] / 2, lowest=1.0)
    np.testing.assert_allclose(panels[0].images[0].get_array(), overlay, rtol=1e-6)
    np.testing.assert_allclose(panels[2].images[0].get_array(), 100 / 255)
    assert panels[2].get_xlabel() == "peak 1.0 x mean"
    np.testing.assert_allclose(rectangles(panels[0]), [[-0.5, -0.5, 0.5, 1.5]] * 2)
    np.testing.assert_allclose(rectangles(panels[1]), [[0.5, -0.5, 1.5, 1.5]] * 2)


def test_no_label_is_drawn_twice():
    three = {name: values[:3] for name, values in PAIRS.items()}
    *panels, _ = extremes(pairs=three).axes
    assert [axes.get_title()[:6] for axes in panels] == ["0\n100%", "1\n75% ", "0\n25% "]
    one = {name: values[:1] for name, values in PAIRS.items()}
    panel, _ = extremes(pairs=one).axes
    assert panel.get_ylabel() == "best located"


def test_several_boxes_of_a_label():
    boxes = [np.array([LEFT, RIGHT, LEFT]), np.array([LEFT]), np.array([RIGHT])]
    box_labels = [np.array([0, 1, 0]), np.array([0]), np.array([1])]
    *panels, _ = extremes(boxes=boxes, box_labels=box_labels, count=2).axes
    # A bright frame over a dark one each; the fourth panel is label 0 of image 0.
    assert [len(rectangles(axes)) for axes in panels] == [2, 2, 2, 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": {name: values[:0] for name, values in PAIRS.items()}}, "one pair.*0 pairs"),
        ({"count": 0}, "count=0"),
    ],
)
def test_extremes_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        extremes(**changes)
