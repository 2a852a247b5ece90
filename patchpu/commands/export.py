"""The command `patchpu export`: a trained model as a file for other runtimes."""

from patchpu.commands.options import run_command


def main(arguments):
    run_command(export, arguments)


def export(
    model: str,
    format: str = "onnx",
    output: str | None = None,
    overwrite: bool = False,
    attention: bool = False,
):
    """Write a trained model as a file that runs without this package.

    uint8 images in, scores of the labels out, label names and thresholds in its metadata.

    Args:
        model: A .keras file, or a run folder.
        format: onnx, tf_saved_model (a folder) or litert.
        output: What to write: .onnx, .tflite or a folder. null: beside the model, with its name.
        overwrite: Whether to replace the output if it is there.
        attention: Whether to give the attention of each label over the patches, too.
    """
    from patchpu.prediction.export_model import export_model

    export_model(model, format, output, overwrite, attention)
