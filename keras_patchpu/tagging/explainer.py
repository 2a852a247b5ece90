"""What a model says of one image and where it looks."""

import dataclasses
import threading
from typing import Any

import numpy as np
from PIL import Image

from keras_patchpu.datasets.read_image import fit_image, placed, read_image
from keras_patchpu.metrics import heat_pixels
from keras_patchpu.metrics.model_heat import heat_of, sharpened_heat_of
from keras_patchpu.tagging.tags import Tags, check_scores
from keras_patchpu.utils.validation import MAX_PIXELS, check_positive_integer
from keras_patchpu.visualize import attention_overlay

SHOWN_SIDE = 720  # longer side in pixels of an image as it is shown


@dataclasses.dataclass(eq=False)
class Explanation:
    """One image and what a model says of it.

    Attributes:
        found: `Tags` with the name, the scores `(L,)` and the size of the image.
        image: uint8 `(h, w, 3)`, the image as it is shown.
        pixels: uint8 `(H, W, 3)`, the image as the model sees it.
        outputs: Dict of the model's outputs that heat maps are made of.
        heats: Dict of a view to its heat map, `AttentionHeat` or `ScoreMapHeat`; filled when
            a view is first asked for.
    """

    found: Tags
    image: np.ndarray
    pixels: np.ndarray
    outputs: dict
    heats: dict = dataclasses.field(default_factory=dict)


class Explainer:
    """Explains single images by one model, for several threads.

    Threads take turns with the model, and each call returns what is its own.

    Args:
        model: `PatchClassifier`, `BackboneClassifier` or `ResNetClassifier`.
        max_pixels: Largest image, see `read_image`. Defaults to `None`: 100 million.

    Attributes:
        views: Dict of the names of the heat maps that `overlay` lays over an image, to what
            they are called on the page. `"all"`, the attention of all patches added up; `"0"`,
            `"1"`, ..., that of the patches of one level, where there are several;
            `"sharpened"`, as in reports. Of a `ResNetClassifier` `"grad_cam"` alone.

    Call arguments:
        source: Path of an image file, its bytes, or a uint8 array `(H, W, 3)`.
        name: What the image is called.

    Returns:
        `Explanation`.

    Raises:
        ImageError: The image cannot be read. A `ValueError`.
        ValueError: The model predicts NaN.
    """

    def __init__(self, model: Any, max_pixels: int | None = None) -> None:
        self.max_pixels = MAX_PIXELS if max_pixels is None else max_pixels
        check_positive_integer("max_pixels", self.max_pixels)
        self.image_size = model.image_size
        self.image_fit = model.image_fit
        self.label_names = model.label_names or tuple(map(str, range(model.num_labels)))
        self.thresholds = None if model.thresholds is None else np.array(model.thresholds)
        self._lock = threading.Lock()
        self._trained = model
        if hasattr(model, "patch_boxes"):
            grids = model.level_grids
            self._level = np.repeat(
                np.arange(len(grids)), [rows * columns for rows, columns in grids]
            )
            self.views = {"all": "all patches"}
            if len(grids) > 1:
                for level, (rows, columns) in enumerate(grids):
                    patches = "patch" if rows * columns == 1 else "patches"
                    self.views[str(level)] = f"{rows} × {columns} {patches}"
            self.views["sharpened"] = "sharpened"
            self._predicting = model.fused().part("attention", "probabilities")
        else:
            self.views = {"grad_cam": "Grad-CAM"}
            self._predicting = model.part("score_maps", "probabilities")
        # The first prediction takes long: before anybody waits for it.
        self(np.zeros((*self.image_size, 3), "uint8"), "black image")

    def __call__(self, source, name):
        if not isinstance(source, np.ndarray):
            source = read_image(source, name=name, max_pixels=self.max_pixels)
        pixels = fit_image(source, self.image_size, self.image_fit)
        with self._lock:
            outputs = self._predicting.predict_on_batch(pixels[None])
        scores = np.array(outputs.pop("probabilities")[0], "float32")
        check_scores(name, scores)
        height, width = source.shape[:2]
        ratio = SHOWN_SIDE / max(height, width)
        size = max(1, round(width * ratio)), max(1, round(height * ratio))
        shown = np.asarray(Image.fromarray(source).resize(size, Image.Resampling.BICUBIC))
        return Explanation(Tags(name, scores=scores, size=(height, width)), shown, pixels, outputs)

    def heat(self, explanation: Explanation, label: int, view: str) -> np.ndarray:
        """Heat map of a label over an image, as multiples of its mean.

        Args:
            explanation: `Explanation`.
            label: Number of the label.
            view: One of `views`.

        Returns:
            float32 `(h, w)`, of the size of `explanation.image`. Zeros where there is none.
        """
        with self._lock:
            if view not in explanation.heats:
                explanation.heats[view] = self._make_heat(explanation, view)
        cells = heat_pixels(explanation.heats[view], [0], [label], self.image_size)[0]
        top, left, height, width = placed(explanation.found.size, self.image_size, self.image_fit)
        cells = cells[top : top + height, left : left + width]
        rows, columns = (
            np.arange(shown) * seen // shown
            for shown, seen in zip(explanation.image.shape, cells.shape)
        )
        heat = cells[rows][:, columns]
        return heat / (heat.mean() or 1.0)

    def _make_heat(self, explanation, view):
        outputs = explanation.outputs
        if view == "sharpened":
            return sharpened_heat_of(self._trained, explanation.pixels[None])
        if view in ("all", "grad_cam"):
            return heat_of(self._trained, outputs, self.image_size)
        alone = np.where(self._level == int(view), outputs["attention"], 0.0)
        return heat_of(self._trained, {"attention": alone}, self.image_size)

    def overlay(self, explanation: Explanation, label: int, view: str) -> tuple[np.ndarray, str]:
        """The image under the heat map of a label, and a sentence about it.

        Args:
            explanation, label, view: As of `heat`.

        Returns:
            uint8 array of the shape of `explanation.image`, and a string.
        """
        heat = self.heat(explanation, label, view)
        # Of patches of one level all are shown; of heat maps what is above the mean. What is
        # nearly even is drawn fainter, see `draw_attention`.
        lowest = 0.0 if view.isdigit() else 1.0
        picture = attention_overlay(explanation.image, heat, max(heat.max(), 2.0), lowest)
        return np.round(picture * 255).astype("uint8"), self._told(explanation, label, view, heat)

    def _told(self, explanation, label, view, heat):
        name = self.label_names[label]
        if not heat.any():
            return f"Nothing speaks for “{name}” here."
        if view.isdigit():
            attention = explanation.outputs["attention"][0, label]
            of_level = 100 * attention[self._level == int(view)]
            start = f"{self.views[view]}: {of_level.sum():.0f} % of the attention of “{name}”"
            return f"{start}, the strongest {of_level.max():.0f} %."
        what = {
            "all": f"the attention of “{name}”",
            "sharpened": f"attention to patches that by themselves say “{name}”",
            "grad_cam": f"what speaks for “{name}” (Grad-CAM: a ResNet has no attention)",
        }[view]
        return f"Red: {what} is above its mean; at its peak {heat.max():.1f} times the mean."
