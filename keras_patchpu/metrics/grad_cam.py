"""Heat maps of classifiers without attention: Grad-CAM, and maps of scores."""

import numpy as np


def grad_cam(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Grad-CAM of one label in each image, eq. (1)-(2) of Selvaraju et al.

    `relu(sum_k alpha_k A_k)`, where `alpha_k`, the mean over all places of the gradient of the
    label's logit by feature map k, says how much the label depends on it.

    Args:
        features: `(N, h, w, C)` feature maps A of the last convolution.
        gradients: `(N, h, w, C)` gradients of the label's logit by the features.

    Returns:
        float32 `(N, h, w)`, not negative.

    Raises:
        ValueError: Shapes differ.

    Reference:
        Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via
        Gradient-based Localization", ICCV 2017.
    """
    features = np.asarray(features, dtype="float32")
    gradients = np.asarray(gradients, dtype="float32")
    if features.ndim != 4 or features.shape != gradients.shape:
        raise ValueError(
            "Expected `features` and `gradients` of one shape (N, h, w, C). Received: "
            f"{features.shape} and {gradients.shape}"
        )
    alpha = gradients.mean(axis=(1, 2))
    return np.maximum(np.einsum("nhwc,nc->nhw", features, alpha), 0.0)


def score_map_heat(score_maps: np.ndarray, bias: float | np.ndarray = 0.0) -> np.ndarray:
    """Heat of every label from the score maps of a head that scores places and takes the mean.

    `relu(score - bias)`. Where the scores are a 1x1 convolution of the features, and a label's
    logit is their mean over the h * w places, this is h * w times `grad_cam`, for all labels
    and without a gradient. With a bias of 0 heat is where the place by itself says present
    (log-odds above 0).

    Args:
        score_maps: `(N, h, w, L)` log-odds of places.
        bias: Of the 1x1 convolution, a number or `(L,)`. Defaults to `0.0`.

    Returns:
        float32 `(N, h, w, L)`, not negative.
    """
    score_maps, bias = (np.asarray(values, dtype="float32") for values in (score_maps, bias))
    return np.maximum(score_maps - bias, 0.0)
