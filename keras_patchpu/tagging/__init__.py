"""Tags of images by a trained model, and why."""

from keras_patchpu.tagging.explainer import Explainer, Explanation
from keras_patchpu.tagging.tagger import Tagger
from keras_patchpu.tagging.tags import Tags, given_labels

__all__ = ["Explainer", "Explanation", "Tagger", "Tags", "given_labels"]
