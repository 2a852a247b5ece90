"""Tags of images by a trained model."""

import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator

import keras
import numpy as np

from keras_patchpu.datasets.read_image import ImageError, fit_image, read_image
from keras_patchpu.models import PatchClassifier, load_classifier
from keras_patchpu.tagging.tags import Tags, check_scores, given_labels
from keras_patchpu.utils.read_ahead import read_ahead
from keras_patchpu.utils.validation import MAX_PIXELS, check_positive_integer


class Tagger:
    """Tags images with a trained model, batch by batch, in their order.

    Labels predicted: with `model.thresholds` those whose probability is at least the
    label's threshold, without the `top_k` of highest probability.

    Images are read in threads while the model computes; no more than three batches are held.
    The last batch is filled up, so that the model is compiled once.

    Args:
        model: `PatchClassifier`, or path of a .keras file or of a run folder (its
            last/model.keras), or `"hf://user/name"`, see `load_classifier`.
        top_k: Labels an image, at most. Defaults to `None`: 3 without thresholds, no limit
            with them.
        batch_size: Images predicted at once. Defaults to `16`.
        max_pixels: Largest image, see `read_image`. Defaults to `None`: 100 million.
        attention: Whether to tell where each tag is. Defaults to `False`.
        workers: Threads that read. Defaults to `None`: as many as processors, 8 at most.

    Call arguments:
        images: Iterable of paths, bytes of image files, or uint8 arrays `(H, W, 3)`.

    Returns:
        Generator of one `Tags` for each image. An image that cannot be read has an `error`.

    Raises:
        ValueError: The model cannot be loaded, an argument is out of range, an array is not
            as above, or the model predicts NaN.

    Example:

    ```python
    for found in Tagger("runs/mine", attention=True)(["a.jpg", "b.png"]):
        print(found.name, found.tags, found.regions, found.error)
    ```
    """

    def __init__(
        self,
        model: PatchClassifier | str | os.PathLike,
        top_k: int | None = None,
        batch_size: int = 16,
        max_pixels: int | None = None,
        attention: bool = False,
        workers: int | None = None,
    ) -> None:
        max_pixels = MAX_PIXELS if max_pixels is None else max_pixels
        if top_k is not None:
            check_positive_integer("top_k", top_k)
        check_positive_integer("batch_size", batch_size)
        check_positive_integer("max_pixels", max_pixels)
        if workers is not None:
            check_positive_integer("workers", workers)
        if isinstance(model, (str, os.PathLike)):
            model = load_classifier(model, compile=False, kinds=PatchClassifier)
        if not isinstance(model, PatchClassifier):
            raise ValueError(
                "Expected `model` to be a PatchClassifier or the path of a saved one. Received: "
                f"{type(model).__name__}"
            )
        self.top_k = top_k
        self.batch_size = batch_size
        self.max_pixels = max_pixels
        self.attention = attention
        self.workers = workers
        self.image_size = model.image_size
        self.image_fit = model.image_fit
        self.thresholds = None if model.thresholds is None else np.array(model.thresholds)
        self.label_names = model.label_names or tuple(map(str, range(model.num_labels)))
        self._grid = _Grid(model.patch_boxes, model.image_size)
        self._model = model.fused()
        if attention:
            self._model = _WithAttention(self._model)

    def __call__(self, images: Iterable[str | os.PathLike | bytes | np.ndarray]) -> Iterator[Tags]:
        reading = read_ahead(self._read, enumerate(images), 2 * self.batch_size, self.workers)
        try:
            while batch := list(itertools.islice(reading, self.batch_size)):
                yield from self._predict(batch)
        finally:
            reading.close()  # also when the caller stops early

    def _read(self, numbered):
        """`Tags` of name and size, and pixels at the model's size; or of name and error."""
        index, image = numbered
        is_path = isinstance(image, (str, os.PathLike))
        name = os.fspath(image) if is_path else f"image {index}"
        if isinstance(image, np.ndarray):
            if image.dtype != "uint8" or image.ndim != 3 or image.shape[-1] != 3 or not image.size:
                raise ValueError(
                    f"Expected {name} to be a uint8 array of the shape (H, W, 3). Received: "
                    f"{image.dtype}, shape {image.shape}"
                )
        elif not is_path and not isinstance(image, bytes):
            raise ValueError(
                f"Expected {name} to be a path, bytes or an array. Received: {type(image).__name__}"
            )
        else:
            try:
                image = read_image(image, name=name, max_pixels=self.max_pixels)
            except ImageError as error:
                return Tags(name, error=" ".join(str(error).split())), None
        found = Tags(name, size=image.shape[:2])
        return found, fit_image(image, self.image_size, self.image_fit)

    def _predict(self, batch):
        """One `Tags` for each item of `_read`."""
        pixels = np.zeros((self.batch_size, *self.image_size, 3), "uint8")
        readable = [index for index, (_, image) in enumerate(batch) if image is not None]
        for index in readable:
            pixels[index] = batch[index][1]
        outputs = self._model.predict_on_batch(pixels) if readable else None
        scores, attention = outputs if self.attention and readable else (outputs, None)
        for index, (found, image) in enumerate(batch):
            if image is None:
                yield found
                continue
            # A copy, so that whoever keeps it does not keep the batch.
            found = dataclasses.replace(found, scores=np.array(scores[index], "float32"))
            check_scores(found.name, found.scores)
            labels = given_labels(found.scores, self.thresholds, self.top_k)
            places = {}
            if self.attention:
                places = self._places(labels, np.asarray(attention[index]), found.size)
            tags = tuple(self.label_names[label] for label in labels)
            yield dataclasses.replace(found, tags=tags, **places)

    def _places(self, labels, attention, size):
        from keras_patchpu.datasets.read_image import placed

        regions, heatmaps = {}, {}
        place = placed(size, self.image_size, self.image_fit)
        cells, ys, xs = self._grid.heat(attention[labels], place)
        for label, heat in zip(labels, cells):
            name = self.label_names[label]
            region = peak_region(heat)
            if region is not None:
                rows, columns = region
                y_min, y_max = _scaled(ys[rows.start], ys[rows.stop], size[0], place[2])
                x_min, x_max = _scaled(xs[columns.start], xs[columns.stop], size[1], place[3])
                regions[name] = (y_min, x_min, y_max, x_max)
            heatmaps[name] = heat.repeat(np.diff(ys), axis=0).repeat(np.diff(xs), axis=1)
        return {"regions": regions, "heatmaps": heatmaps}


def peak_region(heat: np.ndarray) -> tuple[slice, slice] | None:
    """Bounding box of the area around the peak of a heat map.

    The area is what is connected to the (first) peak, by edges, through values of at least
    half of the peak.

    Args:
        heat: `(H, W)`, not negative.

    Returns:
        Pair of slices, rows and columns; `None` for a map of zeros.
    """
    from scipy import ndimage

    peak = heat.max()
    if peak <= 0:
        return None
    # Sums of the same numbers in float32 may differ in the last digits.
    areas, _ = ndimage.label(heat >= peak / 2 * (1 - 1e-5))
    (region,) = ndimage.find_objects((areas == areas.flat[heat.argmax()]).astype(int))
    return region


class _WithAttention(keras.Model):
    """A model of images to probabilities and attention, compiled as one."""

    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier
        self.jit_compile = classifier.jit_compile
        self.run_eagerly = classifier.run_eagerly

    def call(self, images):
        outputs = self.classifier.intermediates(images, training=False)
        return outputs["probabilities"], outputs["attention"]


class _Grid:
    """The rectangles that the edges of all patches cut an image into.

    A heat map is constant on each: a map of rectangles says the same as one of pixels, with
    100 numbers for 640x640 pixels of the default patches.
    """

    def __init__(self, patch_boxes, image_size):
        height, width = image_size
        # Rounded to pixels as `attention_heatmap` does.
        edges = np.round(patch_boxes * [height, width, height, width]).astype(int)
        edges[:, 2:] = np.maximum(edges[:, 2:], edges[:, :2] + 1)
        self.ys = np.unique([0, height, *edges[:, [0, 2]].ravel()])
        self.xs = np.unique([0, width, *edges[:, [1, 3]].ravel()])
        self.shape = (len(self.ys) - 1, len(self.xs) - 1)
        rows = np.searchsorted(self.ys, edges[:, [0, 2]]) / self.shape[0]
        columns = np.searchsorted(self.xs, edges[:, [1, 3]]) / self.shape[1]
        self.boxes = np.stack([rows[:, 0], columns[:, 0], rows[:, 1], columns[:, 1]], axis=1)

    def heat(self, attention, place):
        """Attention `(K, P)` on the part of the input where the image lies.

        Returns:
            Heat `(K, R, C)` of rectangles, and their R + 1 and C + 1 edges in pixels from the
            image's upper left corner.
        """
        from keras_patchpu.metrics import attention_heatmap

        top, left, height, width = place
        heat = attention_heatmap(attention, self.boxes, self.shape, fill="same")
        ys = np.clip(self.ys - top, 0, height)
        xs = np.clip(self.xs - left, 0, width)
        heat = heat[:, np.diff(ys) > 0][:, :, np.diff(xs) > 0]
        return heat, np.unique(ys), np.unique(xs)


def _scaled(start, stop, original, fitted):
    """Edges in pixels of the original image, outwards to whole ones."""
    return int(start * original // fitted), int(-(-stop * original // fitted))
