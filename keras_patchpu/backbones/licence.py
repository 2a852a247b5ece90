"""Under which licence the weights of a backbone are."""

from keras_patchpu.backbones.efficientnet_lite0 import is_efficientnet_lite0
from keras_patchpu.backbones.keras_application import family_of
from keras_patchpu.backbones.preset import PREFIX

# By the file of `keras.applications`: what the documentation of Keras 2 says of its weights, with
# whose they were first. That of Keras 3 says nothing, and of newer networks neither did.
_OF_FAMILIES = {
    "densenet": "BSD-3-Clause",
    "inception_resnet_v2": "Apache-2.0",
    "inception_v3": "Apache-2.0",
    "mobilenet": "Apache-2.0",
    "mobilenet_v2": "Apache-2.0",
    "nasnet": "Apache-2.0",
    "resnet": "MIT",
    "resnet_v2": "BSD-3-Clause",
    "vgg16": "CC-BY-4.0",
    "vgg19": "CC-BY-4.0",
    "xception": "MIT",
}


def licence(name: str) -> str:
    """The licence of a backbone's trained weights, as those say who gave them.

    Args:
        name: As of `load`.

    Returns:
        An SPDX identifier, or in words what is known.

    Raises:
        ValueError: There is no such network.
    """
    if name.startswith(PREFIX):
        return "that of the preset, see its page"
    if name.endswith(".keras"):
        return "that of the file, see where it is from"
    if is_efficientnet_lite0(name):
        return "Apache-2.0"
    return _OF_FAMILIES.get(
        family_of(name), "not stated by Keras, whose own code is under Apache-2.0"
    )
