"""Built-in data: scenes of real handwritten digits on photographs."""

import dataclasses

import numpy as np
from PIL import Image

from keras_patchpu.utils.validation import check_number, check_positive_integer

NUM_DIGITS = 10
_DIGIT_SIZE = (18, 28)  # side of a digit in pixels of a 64x64 scene
_MAX_ROTATION = 15.0  # degrees
_BACKGROUND_LEVEL = 40.0  # mean grey of a background


@dataclasses.dataclass(frozen=True)
class Digits:
    """Scenes of handwritten digits.

    Attributes:
        images: uint8 `(N, size, size, 3)`.
        labels: int8 `(N, 10)` true annotation, 0/1.
        boxes: float32 `(N, 10, 4)` of `(y_min, x_min, y_max, x_max)` from 0 to 1
            relative to the image, the square that the digit was written in; zeros for a
            digit that is not there.
        label_names: `("0", ..., "9")`.
    """

    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    label_names: tuple[str, ...] = tuple(str(digit) for digit in range(NUM_DIGITS))


def load_digit_scenes(
    num_scenes: int,
    split: str = "train",
    image_size: int = 64,
    max_digits: int = 3,
    difficulty: float = 0.25,
    seed: int = 0,
) -> Digits:
    """Makes scenes of 1 to `max_digits` different handwritten digits.

    The digits are scikit-learn's `load_digits` (1,797 written by people), 18 to 28 pixels
    of a 64x64 scene each, rotated by up to 15 degrees, light on crops of scikit-learn's two
    sample photographs, darkened and with low contrast; they do not overlap. Validation
    scenes are made of the last fifth of the digits, which no training scene shows.

    Args:
        num_scenes: Number of scenes, N.
        split: `"train"` or `"validation"`. Defaults to `"train"`.
        image_size: Side of a scene in pixels, at least 32; digits grow with it. 640 gives
            the paper's geometry. Defaults to `64`.
        max_digits: Largest number of digits a scene, 1 to 4. Each number from 1 is equally
            likely. Defaults to `3`.
        difficulty: From 0 (bright digits on flat ground) to 1 (dim digits on ground of
            strong contrast). Defaults to `0.25`.
        seed: Integer seed; the same arguments give the same scenes. Defaults to `0`.

    Returns:
        `Digits`. Memory: `3 * num_scenes * image_size ** 2` bytes.

    Raises:
        ValueError: An argument is out of range.
    """
    check_positive_integer("num_scenes", num_scenes)
    check_positive_integer("image_size", image_size, minimum=32)
    check_positive_integer("max_digits", max_digits)
    check_number("max_digits", max_digits, maximum=4)
    check_number("difficulty", difficulty, minimum=0, maximum=1)
    check_positive_integer("seed", seed, minimum=0)
    glyphs = _glyphs(split)
    photographs = _photographs(image_size)
    random = np.random.default_rng([seed, split == "validation"])

    images = np.empty((num_scenes, image_size, image_size, 3), dtype="uint8")
    labels = np.zeros((num_scenes, NUM_DIGITS), dtype="int8")
    boxes = np.zeros((num_scenes, NUM_DIGITS, 4), dtype="float32")
    for scene in range(num_scenes):
        canvas = _background(random, photographs, image_size, difficulty)
        for digit, ink, (top, left) in _placed_digits(random, glyphs, max_digits, image_size):
            height, width = ink.shape
            region = canvas[top : top + height, left : left + width]
            brightness = random.uniform(230 - 110 * difficulty, 255 - 40 * difficulty)
            region += ink[..., None] * (brightness - region)
            labels[scene, digit] = 1
            boxes[scene, digit] = np.array([top, left, top + height, left + width]) / image_size
        images[scene] = np.clip(canvas, 0, 255).astype("uint8")
    return Digits(images, labels, boxes)


def _glyphs(split):
    """Handwritten digits of a split: list over classes of arrays `(count, 8, 8)`."""
    from sklearn.datasets import load_digits  # slow, and only these scenes need it

    if split not in ("train", "validation"):
        raise ValueError(
            f"Expected `split` to be 'train' or 'validation'. Received: split={split!r}"
        )
    data = load_digits()
    # Not shuffled: writers come in runs, so the last fifth is mostly other people's hands.
    first_validation = len(data.target) * 4 // 5
    part = slice(None, first_validation) if split == "train" else slice(first_validation, None)
    images, targets = data.images[part], data.target[part]
    return [images[targets == digit] for digit in range(NUM_DIGITS)]


def _photographs(image_size):
    """The sample photographs, enlarged where a scene would not fit into them."""
    from sklearn.datasets import load_sample_images  # as above

    photographs = []
    for pixels in load_sample_images().images:
        photograph = Image.fromarray(pixels)
        factor = max(1.0, 1.5 * image_size / min(photograph.size))
        size = [round(side * factor) for side in photograph.size]
        photographs.append(np.asarray(photograph.resize(size, Image.BILINEAR), dtype="float32"))
    return photographs


def _background(random, photographs, image_size, difficulty):
    """A random crop, float32, mirrored half of the time, dark and of low contrast."""
    photograph = photographs[random.integers(len(photographs))]
    top = random.integers(photograph.shape[0] - image_size + 1)
    left = random.integers(photograph.shape[1] - image_size + 1)
    crop = photograph[top : top + image_size, left : left + image_size]
    if random.random() < 0.5:
        crop = crop[:, ::-1]
    return _BACKGROUND_LEVEL + (crop - crop.mean()) * (0.1 + 0.5 * difficulty)


def _ink(random, glyph, image_size):
    """One digit as opacity 0..1, a square, enlarged and rotated."""
    side = round(random.uniform(*_DIGIT_SIZE) * image_size / 64)
    angle = random.uniform(-_MAX_ROTATION, _MAX_ROTATION)
    picture = Image.fromarray((glyph * (255 / 16)).astype("uint8"))
    picture = picture.resize((side, side), Image.BICUBIC).rotate(angle, Image.BILINEAR)
    return np.asarray(picture, dtype="float32") / 255


def _placed_digits(random, glyphs, max_digits, image_size):
    """Different digits and places where they do not overlap: `(digit, ink, (top, left))`."""
    count = random.integers(1, max_digits + 1)
    digits = random.choice(NUM_DIGITS, size=count, replace=False)
    while True:  # until all fit; two tries are rare
        placed = []
        for digit in digits:
            glyph = glyphs[digit][random.integers(len(glyphs[digit]))]
            ink = _ink(random, glyph, image_size)
            place = _free_place(random, ink.shape, placed, image_size)
            if place is None:
                break
            placed.append((digit, ink, place))
        if len(placed) == count:
            return placed


def _free_place(random, shape, placed, image_size, tries=50):
    """A random `(top, left)` off everything placed so far, or None."""
    height, width = shape
    for _ in range(tries):
        top = random.integers(image_size - height + 1)
        left = random.integers(image_size - width + 1)
        if all(
            top + height <= other_top
            or other_top + ink.shape[0] <= top
            or left + width <= other_left
            or other_left + ink.shape[1] <= left
            for _, ink, (other_top, other_left) in placed
        ):
            return top, left
    return None
