"""Classifiers as files for other runtimes: ONNX, LiteRT, TensorFlow's SavedModel."""

from keras_patchpu.export.export_classifier import check_export, describe, export_classifier

__all__ = ["check_export", "describe", "export_classifier"]
