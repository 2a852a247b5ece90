"""Callbacks: exact validation, and what losses remember of earlier epochs."""

from keras_patchpu.callbacks.evaluation import Evaluation, ObservedEvaluation
from keras_patchpu.callbacks.prediction_averages import PredictionAverages
from keras_patchpu.callbacks.pseudo_labels import PseudoLabels
from keras_patchpu.callbacks.weak_negative_quality import WeakNegativeQuality

__all__ = [
    "Evaluation",
    "ObservedEvaluation",
    "PredictionAverages",
    "PseudoLabels",
    "WeakNegativeQuality",
]
