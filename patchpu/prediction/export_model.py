"""A trained model as a file for other runtimes."""

import pathlib

from keras_patchpu.export import check_export, export_classifier
from keras_patchpu.models.load_classifier import load_classifier, model_file
from patchpu.training.run_files import run_of_model

_SUFFIXES = {"onnx": ".onnx", "tf_saved_model": "_saved_model", "litert": ".tflite"}


def export_model(model, format, output, overwrite, attention):
    """Writes a model for another runtime, and prints what came out.

    Args:
        model: Path of a .keras file or of a run folder.
        format, overwrite, attention: As of `export_classifier`.
        output: Path to write. `None`: beside the model, with its name; of a run, `last` in its
            folder.

    Raises:
        ValueError: An argument is wrong, or the model cannot be read.
    """
    source = model_file(model)
    if output is None:
        # Not into the checkpoint of a run, which is replaced as a whole.
        run = run_of_model(source)
        name = run / "last" if run else source.with_name(source.stem)
        output = name.with_name(f"{name.name}{_SUFFIXES.get(format, '')}")
    check_export(output, format, overwrite)  # before the model is read, which takes a while
    classifier = load_classifier(source, compile=False)
    difference = export_classifier(classifier, output, format, attention, overwrite)
    output = pathlib.Path(output)
    files = [path for path in (output, *output.rglob("*")) if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    sides = "x".join(map(str, classifier.image_size))
    print(f"{output}: {size:,} bytes, {classifier.num_labels} labels, images of {sides} pixels")
    if difference is None:
        print("Not run, as its runtime is not installed: pip install 'keras_patchpu[export]'")
    else:
        print(f"Scores differ from Keras's by up to {difference:.1g} on a few images of noise")
