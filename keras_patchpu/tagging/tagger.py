"""Tags of images by a trained model."""

import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator

import numpy as np

from keras_patchpu.datasets.read_image import ImageError, fit_image, placed, read_image
from keras_patchpu.metrics.heat_areas import peak_region
from keras_patchpu.metrics.heat_grid import heat_grid, pixels_of_cells
from keras_patchpu.models import BackboneClassifier, PatchClassifier, load_classifier
from keras_patchpu.tagging.tags import Tags, check_scores, given_labels
from keras_patchpu.utils.read_ahead import read_ahead
from keras_patchpu.utils.validation import MAX_PIXELS, check_positive_integer

# Classifiers that tell where labels are.
WITH_ATTENTION = (PatchClassifier, BackboneClassifier)


class Tagger:
    """Tags images with a trained model, batch by batch, in their order.

    Labels predicted: with `model.thresholds` those whose probability is at least the
    label's threshold, without the `top_k` of highest probability.

    Images are read in threads while the model computes; no more than three batches are held.
    The last batch is filled up, so that the model is compiled once.

    Args:
        model: `PatchClassifier` or `BackboneClassifier`; or path of a .keras file or of a run
            folder (its last/model.keras), or `"hf://user/name"`, see `load_classifier`.
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
        model: PatchClassifier | BackboneClassifier | str | os.PathLike,
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
            model = load_classifier(model, compile=False, kinds=WITH_ATTENTION)
        if not isinstance(model, WITH_ATTENTION):
            raise ValueError(
                "Expected `model` to be a PatchClassifier or BackboneClassifier, or the path of a "
                f"saved one. Received: {type(model).__name__}"
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
        self._grid = heat_grid(model.patch_boxes, model.image_size)
        wanted = ("probabilities", "attention") if attention else ("probabilities",)
        self._model = model.fused().part(*wanted)

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
        outputs = self._model.predict_on_batch(pixels) if readable else {}
        for index, (found, image) in enumerate(batch):
            if image is None:
                yield found
                continue
            # A copy, so that whoever keeps it does not keep the batch.
            found = dataclasses.replace(
                found, scores=np.array(outputs["probabilities"][index], "float32")
            )
            check_scores(found.name, found.scores)
            labels = given_labels(found.scores, self.thresholds, self.top_k)
            places = {}
            if self.attention:
                places = self._places(labels, np.asarray(outputs["attention"][index]), found.size)
            tags = tuple(self.label_names[label] for label in labels)
            yield dataclasses.replace(found, tags=tags, **places)

    def _places(self, labels, attention, size):
        regions, heatmaps = {}, {}
        top, left, height, width = placed(size, self.image_size, self.image_fit)
        # Of the part of the input where the image lies, in pixels from its upper left corner.
        ys = np.clip(self._grid.ys - top, 0, height)
        xs = np.clip(self._grid.xs - left, 0, width)
        cells = np.tensordot(attention[labels], self._grid.covered, 1)
        cells = cells[:, np.diff(ys) > 0][:, :, np.diff(xs) > 0]
        ys, xs = np.unique(ys), np.unique(xs)
        for label, heat in zip(labels, cells):
            name = self.label_names[label]
            region = peak_region(heat)
            if region is not None:
                rows, columns = region
                y_min, y_max = _scaled(ys[rows.start], ys[rows.stop], size[0], height)
                x_min, x_max = _scaled(xs[columns.start], xs[columns.stop], size[1], width)
                regions[name] = (y_min, x_min, y_max, x_max)
            heatmaps[name] = pixels_of_cells(heat, ys, xs)
        return {"regions": regions, "heatmaps": heatmaps}


def _scaled(start, stop, original, fitted):
    """Edges in pixels of the original image, outwards to whole ones."""
    return int(start * original // fitted), int(-(-stop * original // fitted))
