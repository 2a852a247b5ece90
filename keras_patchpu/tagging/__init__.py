"""Tags of images by a trained model, and why."""

from keras_patchpu.tagging.explainer import Explainer, Explanation
from keras_patchpu.tagging.tagger import Tagger, Tags

__all__ = ["Explainer", "Explanation", "Tagger", "Tags"]
