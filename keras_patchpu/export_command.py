"""The command `patchpu export`: a trained model as a file for other runtimes."""

import pathlib

from keras_patchpu.command import (
    add_allow_outside,
    add_flag,
    add_max_pixels,
    add_overwrite,
    user_errors,
)

# Keras and what imports it stand inside the functions, so that `--help` is quick.

_SUFFIXES = {"onnx": ".onnx", "tf_saved_model": "_saved_model", "litert": ".tflite"}
_CALIBRATION_IMAGES = 256


def export(arguments):
    """The command `patchpu export`.

    Args:
        arguments: List of strings, without the command's name.

    Raises:
        SystemExit: Code 2 and a message on stderr for what a user can mend; code 0 after
            `--help`.
    """
    options = _parser().parse_args(arguments)
    with user_errors("patchpu export"):
        _export(options)


def _parser():
    from jsonargparse import ArgumentParser, DefaultHelpFormatter

    parser = ArgumentParser(
        prog="patchpu export",
        description="Write a trained model as a file that runs without this package: uint8 images "
        "in, scores of the labels out, label names and thresholds in its metadata.",
        formatter_class=DefaultHelpFormatter,
    )
    parser.add_argument("model", type=str, help="A .keras file, or a run folder (last.keras).")
    parser.add_argument(
        "--format", type=str, default="onnx", help="onnx, tf_saved_model (a folder) or litert."
    )
    parser.add_argument(
        "--output",
        type=str | None,
        default=None,
        help="What to write: .onnx, .tflite or a folder. null: beside the model, with its name.",
    )
    add_overwrite(parser)
    add_flag(
        parser, "attention", "Whether to give the attention of each label over the patches, too."
    )
    add_flag(
        parser, "int8", "Whether to compute with 8-bit integers; for onnx, needs --calibration."
    )
    parser.add_argument(
        "--calibration",
        type=str | None,
        default=None,
        help="Folder or table of images like those to be tagged, for --int8; labels are not "
        f"looked at. Up to {_CALIBRATION_IMAGES} of them, evenly spread, are taken.",
    )
    add_max_pixels(parser)
    add_allow_outside(parser)
    return parser


def _export(options):
    from keras_patchpu.export import check_export, export_classifier
    from keras_patchpu.models.load_classifier import load_classifier, model_file

    if options.int8 and options.calibration is None:
        raise ValueError(
            "--int8 needs --calibration: a folder or a table of images like those to be tagged"
        )
    if options.calibration is not None and not options.int8:
        raise ValueError("--calibration is for --int8. Give both, or none")
    source = model_file(options.model)
    output = options.output
    if output is None:
        suffix = _SUFFIXES.get(options.format, "")
        output = source.with_name(f"{source.stem}{'.int8' if options.int8 else ''}{suffix}")
    # Before the model and images are read, which takes a while.
    check_export(output, options.format, options.int8, options.overwrite)
    model = load_classifier(source, compile=False)
    calibration = _calibration(options, model) if options.int8 else None
    difference = export_classifier(
        model, output, options.format, options.attention, calibration, options.overwrite
    )
    output = pathlib.Path(output)
    files = [path for path in (output, *output.rglob("*")) if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    sides = "x".join(map(str, model.image_size))
    print(f"{output}: {size:,} bytes, {model.num_labels} labels, images of {sides} pixels")
    if difference is None:
        print("Not run, as its runtime is not installed: pip install 'keras_patchpu[export]'")
    else:
        images = "images of --calibration" if options.int8 else "images of noise"
        print(f"Scores differ from Keras's by up to {difference:.1g} on a few {images}")


def _calibration(options, model):
    """uint8 images (N, H, W, 3) as the model gets them."""
    import numpy as np

    from keras_patchpu.datasets.read_image import MAX_PIXELS, read_image
    from keras_patchpu.predict_command import list_images

    paths = list_images([options.calibration], allow_outside=options.allow_outside)
    paths = paths[:: -(-len(paths) // _CALIBRATION_IMAGES)]
    limit = MAX_PIXELS if options.max_pixels is None else options.max_pixels
    return np.stack(
        [read_image(path, model.image_size, model.image_fit, max_pixels=limit) for path in paths]
    )
