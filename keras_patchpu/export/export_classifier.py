"""Classifiers as files for other runtimes: ONNX, LiteRT, TensorFlow's SavedModel."""

import importlib.util
import json
import os
import pathlib
import warnings
import zipfile
from typing import Any

import keras
import numpy as np

from keras_patchpu._version import __version__
from keras_patchpu.export.check import largest_difference
from keras_patchpu.export.graph import portable
from keras_patchpu.models import MultiLabelClassifier, PatchClassifier
from keras_patchpu.models.image_classifier import ImageClassifier
from keras_patchpu.utils.validation import check_one_of
from keras_patchpu.utils.whole_files import check_output, whole_file, whole_folder

# How the name of the file has to end; a SavedModel is a folder.
ENDINGS = {"onnx": ".onnx", "tf_saved_model": "", "litert": ".tflite"}
METADATA = "metadata.json"
# Of a score from Keras's; more means that a converter did something else.
_TOLERANCE = 1e-3
_CHECKED_IMAGES = 4
_IMAGES = (
    "RGB, upright as EXIF says, transparent parts white; resized to image_size by Pillow's "
    "BILINEAR ('stretch': without keeping the aspect ratio; 'pad': keeping it, centred on black)"
)
_PATCHES = "level by level, fine to coarse; each level row by row from the upper left"


def export_classifier(
    model: MultiLabelClassifier,
    path: str | os.PathLike,
    format: str = "onnx",
    attention: bool = False,
    overwrite: bool = False,
) -> float | None:
    """Writes a classifier as a file that runs without this package.

    It takes uint8 images `(batch, height, width, 3)` named `images` in batches of any size, and
    gives float32 probabilities `(batch, labels)` named `scores`. Batch norms are folded into
    convolutions. Scores are those of `model` in float32 within 1e-4. Before
    the file gets its name it is run by its own runtime, if that is installed.

    What `describe` says is in the file: as `metadata_props` of ONNX, JSON each; as
    `metadata.json` in a zip archive behind the model in LiteRT; as
    `assets.extra/metadata.json` in the folder of a SavedModel.

    Args:
        model: `PatchClassifier`, `BackboneClassifier` or `ResNetClassifier`.
        path: Where to write; ends with .onnx for ONNX and .tflite for LiteRT. A SavedModel is a
            folder.
        format: `"onnx"`, `"tf_saved_model"` or `"litert"`. Defaults to `"onnx"`.
        attention: Whether there is a second output `attention`, `(batch, labels, patches)`,
            which sums to 1 over patches. A `ResNetClassifier` has none. Defaults to `False`.
        overwrite: Whether to replace what is at `path`. Defaults to `False`.

    Returns:
        Largest difference of a score from Keras's, on four images of noise; `None` if
        the runtime (onnxruntime, ai-edge-litert) is not installed.

    Raises:
        ValueError: The backend is not TensorFlow, a package of the extra `export` is missing,
            an argument is not as above, there is something at `path`, the model predicts NaN,
            has a part that the format cannot express, or comes out with other scores.
    """
    check_export(path, format, overwrite)
    if not isinstance(model, ImageClassifier):
        raise ValueError(
            "Expected `model` to be a PatchClassifier, BackboneClassifier or ResNetClassifier. "
            "Received: "
            f"{type(model).__name__}"
        )
    if attention and not hasattr(model, "patch_boxes"):
        raise ValueError(f"Expected no `attention`: a {type(model).__name__} has none")
    metadata = describe(model, attention)
    graph = portable(model, attention)
    images = _images_to_check(model.image_size)
    if not np.isfinite(graph.predict_on_batch(images)["scores"]).all():
        raise ValueError(
            "The model predicts NaN or infinity. Its weights are damaged, or its training "
            "diverged: take another checkpoint, such as best.keras"
        )
    with (whole_folder if format == "tf_saved_model" else whole_file)(path) as temporary:
        _export(graph, model, temporary, format)
        if format == "onnx":
            _finish_onnx(temporary, metadata, model)
        elif format == "litert":
            # Readers of the model do not look behind its end; those of archives begin there.
            with zipfile.ZipFile(temporary, "a") as archive:
                archive.writestr(zipfile.ZipInfo(METADATA), _json(metadata))
        else:
            extra = temporary / "assets.extra"
            extra.mkdir()
            (extra / METADATA).write_text(_json(metadata), encoding="utf-8")
        difference = largest_difference(temporary, format, graph, images)
        if difference is not None and not difference <= _TOLERANCE:
            raise ValueError(
                f"The {format} file gives other scores than Keras, by up to {difference:.2g}, and "
                "is not kept: a converter of these versions does something else"
            )
    return difference


def describe(model: MultiLabelClassifier, attention: bool = False) -> dict[str, Any]:
    """What a user of an exported file has to know.

    Args:
        model: `PatchClassifier`, `BackboneClassifier` or `ResNetClassifier`.
        attention: Whether the file has the attention. Defaults to `False`.

    Returns:
        Dict of what JSON can hold: `"label_names"`, `"thresholds"` (L numbers from 0 to 1 or
        `None`), `"image_size"` (height and width), `"image_fit"`, `"image_preparation"`,
        `"model"` and `"keras_patchpu"` (its version); with attention
        `"patch_order"`, `"level_grids"` (rows and columns of patches of each level), and
        `"patch_boxes"` (P times `y_min, x_min, y_max, x_max` from 0 to 1 of the prepared image);
        of a `PatchClassifier` `"patch_size"` and `"level_sizes"` (height and width), in pixels.
    """
    metadata = {
        "keras_patchpu": __version__,
        "model": type(model).__name__,
        "label_names": list(model.label_names or map(str, range(model.num_labels))),
        "thresholds": None if model.thresholds is None else list(model.thresholds),
        "image_size": list(model.image_size),
        "image_fit": model.image_fit,
        "image_preparation": _IMAGES,
    }
    if attention:
        metadata["patch_order"] = _PATCHES
        if isinstance(model, PatchClassifier):
            grid = model.patch_extractor.grid(model.image_size)
            metadata["patch_size"] = grid.patch_size
            metadata["level_sizes"] = [list(size) for size in grid.level_sizes]
        metadata["level_grids"] = [list(level) for level in model.level_grids]
        metadata["patch_boxes"] = [
            [float(f"{edge:.7g}") for edge in box] for box in model.patch_boxes
        ]
    return metadata


def check_export(path: str | os.PathLike, format: str, overwrite: bool = False) -> None:
    """Raises a ValueError, as `export_classifier` does, for what can be known without a model."""
    check_one_of("format", format, tuple(ENDINGS))
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Export needs the TensorFlow backend of Keras: set the environment variable "
            f"KERAS_BACKEND=tensorflow (any backend's model can be exported so). Received: "
            f"{keras.backend.backend()}"
        )
    needed = ("onnx", "tf2onnx") if format == "onnx" else ()
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"Export to ONNX needs {' and '.join(missing)}: pip install 'keras_patchpu[export]'"
        )
    path = pathlib.Path(path)
    if not path.name or not path.name.endswith(ENDINGS[format]):
        raise ValueError(
            f"Expected the output for {format} to end with {ENDINGS[format]}. Received: {path}"
        )
    check_output(path, overwrite)
    if path.exists() and format == "tf_saved_model" and not (path / "saved_model.pb").is_file():
        raise ValueError(f"{path} is no SavedModel, and so is not replaced by one. Give another")
    if path.is_dir() and format != "tf_saved_model":
        raise ValueError(f"{path} is a folder, and so is not replaced by a file. Give another")


def _images_to_check(image_size):
    random = np.random.default_rng(0)
    return random.integers(0, 256, (_CHECKED_IMAGES, *image_size, 3)).astype("uint8")


def _export(graph, model, path, format):
    """Keras's own export, without its words."""
    images = keras.InputSpec(shape=(None, *model.image_size, 3), dtype="uint8", name="images")
    options = {}
    if format == "litert":
        import tensorflow as tf

        # Keras's default allows operations of TensorFlow that LiteRT does not have.
        options["target_spec"] = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            graph.export(path, format=format, verbose=False, input_signature=[images], **options)
        except Exception as error:  # converters raise anything
            raise ValueError(_cannot(format, error)) from error


def _finish_onnx(path, metadata, model):
    """Metadata, shapes and order of the outputs; and a check, as tf2onnx makes none."""
    import onnx
    from onnx import helper

    found = onnx.load(path)
    names = sorted((value.name for value in found.graph.output), key=["scores", "attention"].index)
    num_patches = len(metadata.get("patch_boxes", ()))
    shapes = {"scores": (model.num_labels,), "attention": (model.num_labels, num_patches)}
    del found.graph.output[:]
    found.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ("batch", *shapes[name]))
        for name in names
    )
    found.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    helper.set_model_props(found, {name: _json(value) for name, value in metadata.items()})
    try:
        onnx.checker.check_model(found, full_check=True)
    except Exception as error:
        raise ValueError(_cannot("onnx", error)) from error
    onnx.save(found, path)


def _cannot(format, error):
    return f"This model cannot be expressed in {format}: {' '.join(str(error).split())[:300]}"


def _json(value):
    return json.dumps(value, ensure_ascii=False)
