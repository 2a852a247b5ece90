"""Exact metrics over a whole data set, localisation, and the quality of weak negatives."""

from keras_patchpu.metrics.average_precision import average_precision, mean_average_precision
from keras_patchpu.metrics.box_average_precision import box_average_precision
from keras_patchpu.metrics.choose_thresholds import choose_thresholds
from keras_patchpu.metrics.heat_areas import heat_boxes, peak_region
from keras_patchpu.metrics.heat_maps import AttentionHeat, ScoreMapHeat, heat_pixels
from keras_patchpu.metrics.label_metrics import label_metrics
from keras_patchpu.metrics.localization import attention_heatmap, localization
from keras_patchpu.metrics.model_heat import score_map_heat
from keras_patchpu.metrics.negatives_quality import negatives_quality
from keras_patchpu.metrics.observed_metrics import observed_metrics

__all__ = [
    "AttentionHeat",
    "ScoreMapHeat",
    "attention_heatmap",
    "average_precision",
    "box_average_precision",
    "choose_thresholds",
    "heat_boxes",
    "heat_pixels",
    "label_metrics",
    "localization",
    "mean_average_precision",
    "negatives_quality",
    "observed_metrics",
    "peak_region",
    "score_map_heat",
]
