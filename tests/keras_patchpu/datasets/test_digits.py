"""The built-in digit scenes."""

import numpy as np
import pytest
import sklearn.datasets

from keras_patchpu.datasets import load_digit_scenes

pytestmark = pytest.mark.no_backend


@pytest.fixture(scope="module")
def bright_scenes():
    """Scenes of bright digits on nearly flat dark ground."""
    return load_digit_scenes(40, max_digits=3, difficulty=0.0, seed=5)


def box_in_pixels(box, size=64):
    """A box of a scene as whole pixels."""
    pixels = box * size
    np.testing.assert_allclose(pixels, np.round(pixels), atol=1e-4)
    return np.round(pixels).astype(int)


def test_shapes_and_dtypes(bright_scenes):
    assert bright_scenes.images.shape == (40, 64, 64, 3)
    assert bright_scenes.images.dtype == np.uint8
    assert bright_scenes.labels.shape == (40, 10)
    assert bright_scenes.labels.dtype == np.int8
    assert bright_scenes.boxes.shape == (40, 10, 4)
    assert bright_scenes.boxes.dtype == np.float32
    assert bright_scenes.label_names == tuple("0123456789")
    assert set(np.unique(bright_scenes.labels)) == {0, 1}


def test_same_seed_same_scenes_other_seed_other_scenes():
    first, again, other = (load_digit_scenes(3, seed=seed) for seed in (1, 1, 2))
    for name in ("images", "labels", "boxes"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.images, other.images)
    assert not np.array_equal(first.boxes, other.boxes)


def test_one_scene_more_does_not_change_the_others():
    few, many = load_digit_scenes(2, seed=1), load_digit_scenes(4, seed=1)
    np.testing.assert_array_equal(few.images, many.images[:2])


def test_global_random_state_plays_no_part():
    first = load_digit_scenes(2, seed=1)
    np.random.seed(123)
    state = np.random.get_state()[1].copy()
    second = load_digit_scenes(2, seed=1)
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_boxes_hold_the_digits_and_nothing_else_is_bright(bright_scenes):
    # Difficulty 0: ground of 40 +- 0.1 * 255 at most, ink of 230 to 255.
    for image, labels, boxes in zip(
        *(getattr(bright_scenes, n) for n in ("images", "labels", "boxes"))
    ):
        outside = np.ones((64, 64), bool)
        for present, box in zip(labels, boxes):
            if not present:
                np.testing.assert_array_equal(box, np.zeros(4))
                continue
            top, left, bottom, right = box_in_pixels(box)
            assert 18 <= bottom - top == right - left <= 28
            assert min(top, left) >= 0 and max(bottom, right) <= 64
            assert image[top:bottom, left:right].max() > 200
            outside[top:bottom, left:right] = False
        assert image[outside].max() <= 66


def test_boxes_do_not_overlap(bright_scenes):
    for labels, boxes in zip(bright_scenes.labels, bright_scenes.boxes):
        covered = np.zeros((64, 64), int)
        for box in boxes[labels == 1]:
            top, left, bottom, right = box_in_pixels(box)
            covered[top:bottom, left:right] += 1
        assert covered.max() == 1


@pytest.mark.parametrize("max_digits", [1, 2, 4])
def test_scenes_have_one_to_max_digits(max_digits):
    counts = load_digit_scenes(60, max_digits=max_digits).labels.sum(axis=1)
    assert set(counts) == set(range(1, max_digits + 1))


def test_every_digit_occurs(bright_scenes):
    assert (load_digit_scenes(100).labels.sum(axis=0) > 0).all()


def test_the_digit_drawn_is_the_one_labelled(monkeypatch):
    # Every picture of digit d is replaced by a square of brightness 16 * (d + 1) / 10.
    data = sklearn.datasets.load_digits()
    data.images = np.ones((1797, 8, 8)) * 1.6 * (data.target[:, None, None] + 1)
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: data)
    scenes = load_digit_scenes(30, max_digits=2, difficulty=0.0)
    for image, labels, boxes in zip(scenes.images, scenes.labels, scenes.boxes):
        for digit in np.flatnonzero(labels):
            top, left, bottom, right = box_in_pixels(boxes[digit])
            centre = image[(top + bottom) // 2, (left + right) // 2].astype(float).mean()
            # Opacity (d + 1) / 10 between ground of 40 +- 26 and ink of 230 to 255.
            opacity = (digit + 1) / 10
            assert 230 * opacity + 14 * (1 - opacity) - 3 <= centre
            assert centre <= 255 * opacity + 66 * (1 - opacity) + 3


def test_validation_scenes_show_the_last_fifth_of_the_digits(monkeypatch):
    # Only the last fifth of the pictures has ink: 1,797 * 4 // 5 = 1,437 have none.
    data = sklearn.datasets.load_digits()
    data.images = np.zeros((1797, 8, 8))
    data.images[1437:] = 16
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: data)
    train = load_digit_scenes(30, "train", difficulty=0.0)
    assert train.images.max() <= 66
    validation = load_digit_scenes(30, "validation", difficulty=0.0)
    for image, labels, boxes in zip(validation.images, validation.labels, validation.boxes):
        for box in boxes[labels == 1]:
            top, left, bottom, right = box_in_pixels(box)
            assert image[(top + bottom) // 2, (left + right) // 2].min() > 200


def test_no_picture_of_a_digit_is_in_both_splits():
    images = sklearn.datasets.load_digits().images
    train = {image.tobytes() for image in images[:1437]}
    validation = {image.tobytes() for image in images[1437:]}
    assert not train & validation


def test_splits_of_one_seed_have_different_places():
    train, validation = (load_digit_scenes(5, split, seed=1) for split in ("train", "validation"))
    assert not np.array_equal(train.boxes, validation.boxes)


def test_difficulty_lowers_the_contrast():
    def contrast(difficulty):
        scenes = load_digit_scenes(20, difficulty=difficulty, seed=3)
        ground = np.median(scenes.images, axis=(1, 2, 3))
        return (scenes.images.max(axis=(1, 2, 3)) - ground).mean()

    assert contrast(0.0) > contrast(1.0)


def test_the_papers_image_size():
    scenes = load_digit_scenes(2, image_size=640, max_digits=2, difficulty=0.0)
    assert scenes.images.shape == (2, 640, 640, 3)
    for image, labels, boxes in zip(scenes.images, scenes.labels, scenes.boxes):
        for box in boxes[labels == 1]:
            top, left, bottom, right = box_in_pixels(box, 640)
            assert 180 <= bottom - top <= 280
            assert image[top:bottom, left:right].max() > 200


@pytest.mark.parametrize(
    "argument, value",
    [
        ("num_scenes", 0),
        ("num_scenes", 2.0),
        ("split", "test"),
        ("split", None),
        ("image_size", 31),
        ("image_size", (64, 64)),
        ("max_digits", 0),
        ("max_digits", 5),
        ("difficulty", -0.1),
        ("difficulty", 1.1),
        ("difficulty", float("nan")),
        ("difficulty", "hard"),
        ("seed", -1),
        ("seed", None),
    ],
)
def test_bad_arguments_are_explained(argument, value):
    arguments = {"num_scenes": 1, argument: value}
    with pytest.raises(ValueError, match=f"`{argument}`.*{argument}="):
        load_digit_scenes(**arguments)
