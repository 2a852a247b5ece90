"""Models."""

from keras_patchpu.models.backbone_classifier import BackboneClassifier
from keras_patchpu.models.load_classifier import load_classifier
from keras_patchpu.models.load_efficientnet_weights import load_efficientnet_weights
from keras_patchpu.models.multi_label_classifier import MultiLabelClassifier
from keras_patchpu.models.patch_classifier import PatchClassifier
from keras_patchpu.models.resnet_classifier import ResNetClassifier

__all__ = [
    "BackboneClassifier",
    "MultiLabelClassifier",
    "PatchClassifier",
    "ResNetClassifier",
    "load_classifier",
    "load_efficientnet_weights",
]
