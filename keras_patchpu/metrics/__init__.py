"""Exact metrics over a whole data set, and localisation."""

from keras_patchpu.metrics.average_precision import average_precision, mean_average_precision
from keras_patchpu.metrics.evaluation import Evaluation
from keras_patchpu.metrics.label_metrics import label_metrics
from keras_patchpu.metrics.localization import attention_heatmap, localization
from keras_patchpu.metrics.observed_metrics import ObservedEvaluation, observed_metrics

__all__ = [
    "Evaluation",
    "ObservedEvaluation",
    "attention_heatmap",
    "average_precision",
    "label_metrics",
    "localization",
    "mean_average_precision",
    "observed_metrics",
]
