"""What a user writes, for the type checker alone: `mypy` (pyproject.toml) must find it right.

The lines that end in `type: ignore` are wrong on purpose: should mypy no longer see why, it reports
the comment as unused.
"""

import keras
import numpy as np

from keras_patchpu import PatchClassifier
from keras_patchpu.callbacks import Evaluation
from keras_patchpu.datasets import ImageBatches, load_digit_scenes, load_table, observe_uniform
from keras_patchpu.layers import CodebookAttentionPool, PatchExtractor, SharedSoftmaxHead
from keras_patchpu.losses import WeakNegative
from keras_patchpu.metrics import (
    AttentionHeat,
    choose_thresholds,
    localization,
    mean_average_precision,
)
from keras_patchpu.models import MultiLabelClassifier, load_classifier
from keras_patchpu.optimizers import Lamb
from keras_patchpu.tagging import Tagger
from keras_patchpu.visualize import draw_attention


def train(num_scenes: int) -> PatchClassifier:
    scenes = load_digit_scenes(num_scenes, seed=1)
    observed: np.ndarray = observe_uniform(scenes.labels)
    model = PatchClassifier(10, (64, 64), patch_size=16, num_downsamples=2)
    model.label_names = scenes.label_names
    model.compile(Lamb(1e-3, no_weight_decay=["bias"]), WeakNegative(theta=0.1))
    batches = ImageBatches(scenes.images, observed, batch_size=16, seed=0)
    model.fit(batches, callbacks=[Evaluation(scenes.images, scenes.labels)])
    return model.fused()


def judge(model: PatchClassifier) -> float:
    scenes = load_digit_scenes(8, "validation")
    steps = model.explain(scenes.images, ["attention", "probabilities"])
    heat = AttentionHeat(steps["attention"], model.patch_boxes, (64, 64))
    found = localization(heat, scenes.labels, scenes.boxes)
    chosen = choose_thresholds(np.where(scenes.labels > 0, 1, -1), steps["probabilities"])
    model.thresholds = chosen["thresholds"]
    figure = draw_attention(list(scenes.images), list(steps["attention"]), ["a"] * 8)
    figure.savefig("attention.png")
    score: float = mean_average_precision(scenes.labels, steps["probabilities"])
    return score + found["peak_in_box"]


def reuse(features: keras.Model) -> MultiLabelClassifier:
    embeddings = CodebookAttentionPool(10, hidden_units=None)(features.outputs[0])
    probabilities = SharedSoftmaxHead(10, kernel_initializer="zeros")(embeddings)
    return MultiLabelClassifier(features.inputs[0], {"probabilities": probabilities})


def tag(path: str) -> list[tuple[str, ...]]:
    names: tuple[str, ...] | None = load_classifier(path, compile=False).label_names
    files = load_table("photos", label_names=names).train
    return [found.tags for found in Tagger(path, top_k=2)(files.sources)]


def mistakes() -> None:
    PatchExtractor(patch_size="64")  # type: ignore[arg-type]
    CodebookAttentionPool()  # type: ignore[call-arg]
    sizes: list[int] = PatchExtractor().grid((64, 64)).level_sizes  # type: ignore[assignment]
    mean_average_precision("labels", np.zeros(sizes))  # type: ignore[arg-type]
