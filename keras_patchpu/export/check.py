"""An exported file, run once by its own runtime, against Keras."""

import importlib.util

import numpy as np


def largest_difference(path, format, graph, images):
    """Largest difference of a score between an exported file and what it was made of.

    Args:
        path: Path of the file, or of the folder of a SavedModel.
        format: As of `export_classifier`.
        graph: The model that was exported, see `portable`.
        images: uint8 images `(N, H, W, 3)` to compare on.

    Returns:
        A float; `None` if the runtime of the format is not installed.
    """
    scores = _scores(path, format, images)
    if scores is None:
        return None
    return float(np.abs(scores - np.asarray(graph.predict_on_batch(images)["scores"])).max())


def _scores(path, format, images):
    if format == "onnx":
        if importlib.util.find_spec("onnxruntime") is None:
            return None
        import onnxruntime

        return onnxruntime.InferenceSession(path).run(["scores"], {"images": images})[0]
    if format == "litert":
        if importlib.util.find_spec("ai_edge_litert") is None:
            return None
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter(str(path)).get_signature_runner()(images=images)["scores"]
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))  # has the variables, and so must live while it runs
    return np.asarray(loaded.serve(images)["scores"])
