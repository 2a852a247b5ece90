"""Pictures: what is in the arrays and on the axes, and what is refused."""

import numpy as np
import pytest
from figures import is_drawable, rectangles

from keras_patchpu.visualize import (
    attention_overlay,
    draw_attention,
    draw_curves,
    draw_patches,
    draw_tags,
    draw_weak_negatives,
)

pytestmark = pytest.mark.no_backend

HEAT = np.array([[0.0, 1.0], [2.0, 4.0]])


# === attention_overlay ===


@pytest.mark.parametrize("level", [0, 30, 200, 255])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_overlay_is_transparent_at_zero_and_red_at_the_largest(level, dtype):
    image = np.full((2, 2, 3), level, dtype)
    result = attention_overlay(image, HEAT)
    assert result.shape == (2, 2, 3) and result.min() >= 0 and result.max() <= 1
    np.testing.assert_allclose(result[0, 0], level / 255)
    # 70 % red (1, 0.05, 0.05) and 30 % image.
    gray = 0.3 * level / 255
    np.testing.assert_allclose(result[1, 1], [0.7 + gray, 0.035 + gray, 0.035 + gray])
    # Redness grows with the heat, by enough to be seen on dark and on light images.
    redness = (result[..., 0] - result[..., 1]).ravel()
    assert (np.diff(redness) > 0.1).all()


def test_overlay_is_linear_in_the_heat_and_ignores_its_scale():
    image = np.full((2, 2, 3), 128, "uint8")
    result = attention_overlay(image, HEAT)
    at_quarter = 128 / 255 + (result[1, 1] - 128 / 255) / 4
    np.testing.assert_allclose(result[0, 1], at_quarter)
    np.testing.assert_allclose(result, attention_overlay(image, HEAT * 1e-6))


def test_overlay_between_lowest_and_highest():
    image = np.zeros((2, 2, 3))
    result = attention_overlay(image, HEAT, lowest=1.0, highest=3.0, opacity=1.0)
    np.testing.assert_allclose(result[..., 0], [[0, 0], [0.5, 1]])


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_overlay_without_heat_is_the_image(value):
    image = np.arange(12).reshape(2, 2, 3)
    np.testing.assert_allclose(
        attention_overlay(image, np.full((2, 2), value)), image / 255, rtol=1e-12
    )


def test_overlay_leaves_its_arguments_alone():
    image, heat = np.full((2, 2, 3), 9, "uint8"), HEAT.copy()
    attention_overlay(image, heat)
    assert (image == 9).all() and (heat == HEAT).all()


@pytest.mark.parametrize(
    "image, heatmap, message",
    [
        (np.zeros((2, 2)), HEAT, r"`image` to have the shape \(H, W, 3\).*\(2, 2\)"),
        (np.zeros((2, 3, 3)), HEAT, r"`heatmap`.*\(2, 3\).*\(2, 2\)"),
        (np.full((2, 2, 3), 256.0), HEAT, "from 0 to 255.*256"),
        (np.full((2, 2, 3), -1.0), HEAT, "from 0 to 255.*-1"),
        (np.full((2, 2, 3), np.nan), HEAT, "from 0 to 255.*nan"),
        (np.zeros((2, 2, 3)), HEAT * np.nan, "`heatmap` to be finite"),
    ],
)
def test_overlay_refuses(image, heatmap, message):
    with pytest.raises(ValueError, match=message):
        attention_overlay(image, heatmap)


def test_overlay_refuses_an_opacity_above_one():
    with pytest.raises(ValueError, match="`opacity`.*1.5"):
        attention_overlay(np.zeros((2, 2, 3)), HEAT, opacity=1.5)


# === draw_attention ===


def test_attention_panels():
    images = np.full((3, 2, 2, 3), 100, "uint8")
    figure = draw_attention(images, [HEAT, HEAT, HEAT], ["a", "b", "c"], columns=2)
    assert is_drawable(figure)
    *panels, bar = figure.axes
    assert [axes.get_title() for axes in panels] == ["a", "b", "c"]
    # The mean of HEAT is 7 / 4, its largest value 4.
    assert [axes.get_xlabel() for axes in panels] == ["peak 2.3 x mean"] * 3
    assert bar.get_ylabel() == "attention of the label"
    np.testing.assert_allclose(
        panels[0].images[0].get_array(), attention_overlay(images[0], HEAT), rtol=1e-6
    )
    assert not figure.legends


def test_attention_above_the_mean_only():
    image = np.full((2, 2, 3), 100, "uint8")
    figure = draw_attention([image], [HEAT], ["a"], lowest=1.0)
    shown = figure.axes[0].images[0].get_array()
    # 0 and 1 are below the mean 7 / 4; 2 and 4 are not.
    np.testing.assert_allclose(shown[0], 100 / 255)
    assert (shown[1, :, 0] > shown[1, :, 1] + 0.05).all()
    assert [text.get_text() for text in figure.axes[-1].get_yticklabels()] == [
        "mean\nor less",
        "peak of\nthe image\n(at least\n2 x mean)",
    ]


def test_nearly_even_attention_is_faint():
    image = np.zeros((2, 2, 3))
    heat = np.array([[0.8, 1.2], [1.0, 1.0]])
    figure = draw_attention([image] * 2, [np.ones((2, 2)), heat], ["even", "nearly"], lowest=1.0)
    even, nearly = (axes.images[0].get_array() for axes in figure.axes[:2])
    np.testing.assert_allclose(even, 0)
    # Full red, 0.7, stands for twice the mean: 1.2 is a fifth of the way from 1 to 2.
    np.testing.assert_allclose(nearly[..., 0], [[0, 0.14], [0, 0]], atol=1e-6)


def test_attention_outlines_boxes():
    images = [np.zeros((10, 20, 3))] * 4
    two = [[0, 0, 1, 1], [0.5, 0.5, 1, 1]]
    boxes = [(0.1, 0.2, 0.5, 0.6), None, np.zeros(4), two]
    heat = np.ones((10, 20))
    figure = draw_attention(images, [heat] * 4, list("abcd"), boxes)
    assert is_drawable(figure)
    # Twice each, the bright frame over a wider dark one. Pixel 0 reaches from -0.5 to 0.5.
    np.testing.assert_allclose(rectangles(figure.axes[0]), [[3.5, 0.5, 11.5, 4.5]] * 2)
    assert [len(rectangles(axes)) for axes in figure.axes[:4]] == [2, 0, 0, 4]
    assert figure.legends[0].get_texts()[0].get_text() == "true place of the label"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"titles": ["a"]}, "`titles` to have one entry per image, 2.*Received: 1"),
        ({"heatmaps": [HEAT]}, "`heatmaps` to have one entry per image, 2.*Received: 1"),
        ({"boxes": [None] * 3}, "`boxes` to have one entry per image, 2.*Received: 3"),
        ({"boxes": [None, [0, 1]]}, r"`boxes\[1\]`.*\(4,\) or \(K, 4\).*\(2,\)"),
        ({"heatmaps": [HEAT, np.zeros((3, 2))]}, r"`heatmaps\[1\]`.*\(2, 2\).*\(3, 2\)"),
        ({"heatmaps": [HEAT, 0 * HEAT]}, r"`heatmaps\[1\]`.*not all zero"),
        ({"heatmaps": [HEAT - 1, HEAT]}, r"`heatmaps\[0\]`.*not negative.*-1"),
        ({"images": [], "heatmaps": [], "titles": []}, "at least one image.*0 images"),
        ({"columns": 0}, "one column.*columns=0"),
    ],
)
def test_attention_refuses(change, message):
    arguments = {"images": np.zeros((2, 2, 2, 3)), "heatmaps": [HEAT] * 2, "titles": ["a", "b"]}
    with pytest.raises(ValueError, match=message):
        draw_attention(**{**arguments, **change})


# === draw_tags ===


def test_tags_beside_the_plain_image():
    image = np.full((2, 2, 3), 100, "uint8")
    titles = ["$cat 0.90", "a label with a very long name indeed 0.10"]
    figure = draw_tags(image, [HEAT, 0 * HEAT], titles, [(0, 0, 0.5, 1), None], "a.jpg")
    assert is_drawable(figure)
    plain, cat, long, bar = figure.axes
    assert [axes.get_title() for axes in (plain, cat)] == ["a.jpg", "$cat 0.90"]
    assert long.get_title() == "a label with a…ame indeed 0.10" and len(long.get_title()) <= 30
    np.testing.assert_allclose(plain.images[0].get_array(), 100 / 255)
    # The mean of HEAT is 7 / 4: 2 and 4 are above it. A map of zeros shows the image.
    shown = cat.images[0].get_array()
    np.testing.assert_allclose(shown[0], 100 / 255)
    assert (shown[1, :, 0] > shown[1, :, 1] + 0.05).all()
    np.testing.assert_allclose(long.images[0].get_array(), 100 / 255)
    np.testing.assert_allclose(rectangles(cat), [[-0.5, -0.5, 1.5, 0.5]] * 2)
    assert rectangles(long) == []
    assert bar.get_ylabel() == "attention of the label"
    (text,) = figure.legends[0].get_texts()
    assert "half of its peak" in text.get_text()


def test_an_image_without_tags():
    figure = draw_tags(np.zeros((4, 300, 3)), [], [])
    assert is_drawable(figure)
    assert [axes.get_xlabel() for axes in figure.axes] == ["no tag"]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"titles": []}, "1 heat maps, 0 titles"),
        ({"regions": []}, "0 regions"),
        ({"columns": 0}, "columns=0"),
        ({"heatmaps": [HEAT - 1]}, r"`heatmaps\[0\]`.*not negative.*-1"),
        ({"heatmaps": [np.zeros((3, 2))]}, r"`heatmaps\[0\]`.*\(2, 2\).*\(3, 2\)"),
    ],
)
def test_tags_refuses(change, message):
    arguments = {"image": np.zeros((2, 2, 3)), "heatmaps": [HEAT], "titles": ["a"]}
    with pytest.raises(ValueError, match=message):
        draw_tags(**{**arguments, **change})


# === draw_patches ===


def test_patches_lie_where_they_were_cut():
    # Patch i is grey of level i; 2 x 3 patches, then one.
    patches = np.arange(7)[:, None, None, None] * np.ones((7, 4, 4, 3)) * 10
    figure = draw_patches(np.zeros((8, 12, 3), "uint8"), patches, [(2, 3), (1, 1)])
    assert is_drawable(figure)
    assert [axes.get_title("left") for axes in figure.axes] == [
        "image\n8 x 12 pixels",
        "level 0\n2 x 3",
        "level 1\n1 x 1",
    ]
    fine, coarse = (axes.images[0].get_array() for axes in figure.axes[1:])
    # Patches of 4 pixels with gaps of 2.
    assert fine.shape == (10, 16, 3)
    np.testing.assert_allclose(fine[6:10, 12:16], 50 / 255)  # row 1, column 2: number 5
    np.testing.assert_allclose(fine[0:4, 6:10], 10 / 255)
    np.testing.assert_allclose(fine[:, 4:6], 1)
    np.testing.assert_allclose(coarse[0:4, 0:4], 60 / 255)


@pytest.mark.parametrize("shape", [(6, 4, 4, 3), (7, 4, 4, 1), (7, 4, 4)])
def test_patches_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=rf"\(7, h, w, 3\).*shape \({shape[0]}, 4, 4"):
        draw_patches(np.zeros((8, 12, 3)), np.zeros(shape), [(2, 3), (1, 1)])


# === draw_weak_negatives ===

OBSERVED = np.array([[1, 0, 0, 0], [0, 0, 1, -1]])
TRUE = np.array([[1, 1, 0, 0], [0, 0, 1, 0]])
WEIGHTS = np.array([[0.0, 0.25, 0.5, 0.75], [0.8, 0.9, 0.0, 1.0]])
PROBABILITIES = np.array([[0.9, 0.6, 0.2, 0.1], [0.3, 0.4, 0.5, 0.05]])


def bars(axes):
    """Heights of the bars, by colour, from left to right."""
    found = {}
    for container in axes.containers:
        for bar in container:
            found.setdefault(bar.get_facecolor(), []).append(round(bar.get_height(), 6))
    return list(found.values())


def test_weak_negatives_panels():
    figure = draw_weak_negatives(OBSERVED, TRUE, WEIGHTS, PROBABILITIES, list("abcd"))
    assert is_drawable(figure)
    first, second = figure.axes
    # Present but not observed; truly absent; observed absent: three colours.
    assert bars(first) == [[0.25], [0.5, 0.75]]
    assert bars(second) == [[0.8, 0.9], [1.0]]
    np.testing.assert_allclose(first.lines[0].get_ydata(), PROBABILITIES[0])
    assert [label.get_text() for label in second.get_xticklabels()] == list("abcd")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "observed present (weight 0)",
        "weight, present but not observed",
        "weight, truly absent",
        "weight, observed absent",
        "predicted probability",
    ]


def test_weak_negatives_band_marks_the_observed_label():
    figure = draw_weak_negatives(OBSERVED[1], TRUE[1], WEIGHTS[1], PROBABILITIES[1], list("abcd"))
    (axes,) = figure.axes
    bands = [patch for patch in axes.patches if patch.get_hatch()]
    assert [(band.get_x(), band.get_width()) for band in bands] == [(1.5, 1.0)]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"labels_true": TRUE[0]}, r"`labels_true`.*\(2, 4\).*\(4,\)"),
        ({"weights": WEIGHTS[:, :3]}, r"`weights`.*\(2, 4\).*\(2, 3\)"),
        ({"probabilities": PROBABILITIES[:1]}, r"`probabilities`.*\(2, 4\).*\(1, 4\)"),
        ({"label_names": list("abc")}, r"`labels_observed`.*\(images, 3\).*\(2, 4\)"),
        ({"labels_observed": OBSERVED * 2}, r"`labels_observed`.*\(-1, 0, 1\).*2"),
        ({"labels_true": TRUE - 1}, r"`labels_true`.*\(0, 1\).*-1"),
    ],
)
def test_weak_negatives_refuses(change, message):
    arguments = {
        "labels_observed": OBSERVED,
        "labels_true": TRUE,
        "weights": WEIGHTS,
        "probabilities": PROBABILITIES,
        "label_names": list("abcd"),
    }
    with pytest.raises(ValueError, match=message):
        draw_weak_negatives(**{**arguments, **change})


# === draw_curves ===


def test_curves_have_losses_left_and_scores_right():
    history = {"loss": [3, 2], "val_loss": [4, 3], "val_mAP": [0.2, None], "seconds": [9, 9]}
    figure = draw_curves(history)
    assert is_drawable(figure)
    losses, scores = figure.axes
    assert [line.get_label() for line in losses.lines] == ["loss", "val_loss"]
    np.testing.assert_array_equal(losses.lines[0].get_xdata(), [1, 2])
    np.testing.assert_array_equal(losses.lines[1].get_ydata(), [4, 3])
    np.testing.assert_array_equal(scores.lines[0].get_ydata(), [0.2, np.nan])
    assert scores.get_title() == "val_mAP" and scores.get_ylim() == (0, 1)


@pytest.mark.parametrize(
    "history, titles", [({"loss": [1]}, ["loss"]), ({"val_mAP": [0.5, 0.6]}, ["val_mAP"])]
)
def test_curves_leave_out_an_empty_panel(history, titles):
    figure = draw_curves(history)
    assert is_drawable(figure)
    assert [axes.get_title() for axes in figure.axes] == titles


def test_curves_of_other_columns():
    history = {"train_loss": [1, 2], "mAP": [0.1, 0.2], "AUC": [0.3, 0.4]}
    figure = draw_curves(history, ["train_loss"], ["mAP", "AUC"])
    assert [line.get_label() for axes in figure.axes for line in axes.lines] == [
        "train_loss",
        "mAP",
        "AUC",
    ]


@pytest.mark.parametrize(
    "history, message",
    [
        ({"seconds": [1]}, r"one of the columns.*'val_mAP'.*Received: \['seconds'\]"),
        ({"loss": [1, 2], "val_mAP": [0.5]}, "one value per epoch.*'loss': 2, 'val_mAP': 1"),
        ({"loss": []}, "one value per epoch.*'loss': 0"),
    ],
)
def test_curves_refuses(history, message):
    with pytest.raises(ValueError, match=message):
        draw_curves(history)
