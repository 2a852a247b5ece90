"""A case of each registered class for the generic checks; a new class needs one here."""

import keras
from generic_checks import Case

from keras_patchpu import layers, losses, models, optimizers

NAN = float("nan")
NOT_POSITIVE_INTEGERS = [0, -1, 1.5, "2", True]
NOT_MOMENTUMS = [-0.1, 1.0, NAN, "0.9", None]

BAD_PIXELS = [
    ("pixel_mean", (0.0, 0.0)),
    ("pixel_mean", 0.5),
    ("pixel_mean", ("a", "b", "c")),
    ("pixel_mean", (0.0, 0.0, NAN)),
    ("pixel_variance", (1.0, 1.0)),
    ("pixel_variance", 1.0),
    ("pixel_variance", (1.0, 0.0, 1.0)),
    ("pixel_variance", (1.0, -1.0, 1.0)),
    ("pixel_variance", (1.0, 1.0, NAN)),
]


def registered(name):
    """A class that is not exported."""
    return keras.saving.get_custom_objects()[f"keras_patchpu>{name}"]


def initializer(seed=1):
    return keras.initializers.RandomNormal(stddev=0.3, seed=seed)


def small_backbone():
    """From images of any size to tokens for every eighth pixel, one more in front of them."""
    images = keras.Input((None, None, 3), name="any")
    places = keras.layers.Conv2D(4, 8, 8, padding="same", name="cut")(images)
    tokens = keras.layers.Reshape((-1, 4), name="flat")(places)
    tokens = keras.layers.ZeroPadding1D((1, 0), name="first")(tokens)
    return keras.Model(images, tokens, name="tokens")


def bad_values(values, *arguments):
    return [(argument, value) for argument in arguments for value in values]


LABEL_LOSS_BAD = [
    ("label_reduction", "max"),
    ("label_reduction", None),
    ("epsilon", 0),
    ("epsilon", 1.0),
    ("epsilon", NAN),
    ("epsilon", "small"),
]

NOT_REDUCTIONS = [("label_reduction", "max"), ("label_reduction", None)]
NOT_SMOOTHINGS = [-0.1, 0.6, NAN, "0", None]
NOT_WEIGHTS = [-0.1, NAN, "1", None]

EXPECTED_NEGATIVE = {
    "consistency_weight": 0.5,
    "distance": "crossentropy",
    "warmup_epochs": 2,
    "label_reduction": "sum",
    "epsilon": 1e-3,
}

CASES = [
    Case(
        layers.PatchExtractor,
        {
            "patch_size": 8,
            "num_downsamples": 1,
            "downsample_ratio": 3,
            "strides": 4,
            "max_patches_per_level": 2,
            "seed": 7,
        },
        bad=[
            *bad_values(NOT_POSITIVE_INTEGERS, "patch_size", "strides", "max_patches_per_level"),
            *bad_values([-1, 1.5, None], "num_downsamples"),
            *bad_values([1, 0, 2.0, None], "downsample_ratio"),
            *bad_values([-1, 1.5, "a"], "seed"),
        ],
        inputs=(26, 29, 3),
    ),
    Case(
        layers.PatchEmbedder,
        {
            "features": 5,
            "batch_norm_momentum": 0.5,
            "pixel_mean": (0.1, 0.2, 0.3),
            "pixel_variance": (0.5, 0.6, 0.7),
            "kernel_initializer": initializer(),
        },
        bad=[
            *bad_values(NOT_POSITIVE_INTEGERS, "features"),
            *bad_values((None, "yes"), "batch_norm"),
            *bad_values(NOT_MOMENTUMS, "batch_norm_momentum"),
            *BAD_PIXELS,
        ],
        inputs=(2, 16, 16, 3),
        sublayers=3 + 5 + 6 + 4 * 8,
    ),
    Case(
        layers.MobileInvertedBottleneck,
        {
            "filters": 6,
            "kernel_size": 5,
            "strides": 2,
            "expansion": 2,
            "squeeze_ratio": 0.5,
            "batch_norm_momentum": 0.5,
            "kernel_initializer": initializer(),
        },
        bad=[
            *bad_values(NOT_POSITIVE_INTEGERS, "filters", "kernel_size", "strides", "expansion"),
            *bad_values([0, 1.1, -0.5, NAN, None], "squeeze_ratio"),
            *bad_values((None, "yes"), "batch_norm"),
            *bad_values(NOT_MOMENTUMS, "batch_norm_momentum"),
        ],
        inputs=(9, 7, 4),
        sublayers=8,
    ),
    Case(
        layers.CodebookAttentionPool,
        {
            "num_labels": 3,
            "hidden_units": 7,
            "codebook_initializer": initializer(2),
            "kernel_initializer": initializer(),
        },
        bad=bad_values(NOT_POSITIVE_INTEGERS, "num_labels", "hidden_units"),
        inputs=(5, 4),
        sublayers=2,
    ),
    Case(
        layers.SharedSoftmaxHead,
        {"num_labels": 3, "kernel_initializer": initializer()},
        bad=bad_values(NOT_POSITIVE_INTEGERS, "num_labels"),
        inputs=(3, 4),
    ),
    # The arguments of these are checked by Keras, or by the loss that has the layer.
    Case(
        registered("BatchNorm"),
        {"momentum": 0.5, "epsilon": 0.01, "gamma_initializer": initializer()},
        bad=[],
        inputs=(4, 3, 5),
        of_keras=keras.layers.BatchNormalization,
    ),
    Case(
        registered("DepthwiseConv"),
        {"kernel_size": (5, 5), "strides": (2, 2), "padding": "valid"},
        bad=[],
        inputs=(7, 8, 5),
        of_keras=keras.layers.DepthwiseConv2D,
    ),
    Case(
        registered("Conv"),
        {"filters": 4, "kernel_size": (5, 5), "strides": (2, 2), "padding": "same"},
        bad=[],
        inputs=(7, 8, 5),
        of_keras=keras.layers.Conv2D,
    ),
    Case(
        registered("LabelEstimator"),
        {"num_images": 4, "num_labels": 3, "seed": 7},
        bad=[],
    ),
    Case(registered("CaffePixels"), {}, bad=[], inputs=(4, 5, 3), of_keras=keras.layers.Layer),
    Case(
        models.PatchClassifier,
        {
            "num_labels": 3,
            "image_size": (48, 52),
            "patch_size": 16,
            "num_downsamples": 1,
            "downsample_ratio": 3,
            "strides": 20,
            "max_patches_per_level": 2,
            "features": 6,
            "hidden_units": 5,
            "codebook_initializer": initializer(),
            "batch_norm_momentum": 0.9,
            "pixel_mean": (0.1, 0.2, 0.3),
            "pixel_variance": (0.5, 0.6, 0.7),
            "seed": 5,
            "label_names": ("a", "b", "c"),
            "thresholds": (0.1, 0.5, 0.9),
            "image_fit": "pad",
        },
        bad=[
            *bad_values(
                NOT_POSITIVE_INTEGERS,
                "num_labels",
                "patch_size",
                "strides",
                "max_patches_per_level",
                "features",
                "hidden_units",
            ),
            *bad_values([48, (48,), (48, 52, 3), (48, None), (48.0, 52), (8, 52)], "image_size"),
            *bad_values([-1, 1.5], "num_downsamples"),
            *bad_values([1, 2.0], "downsample_ratio"),
            *bad_values((None, "yes"), "batch_norm"),
            *bad_values(NOT_MOMENTUMS, "batch_norm_momentum"),
            *BAD_PIXELS,
            ("seed", -1),
            *bad_values([("a", "b"), ("a", "b", "b"), ("a", "b", 3)], "label_names"),
            *bad_values([(0.1, 0.5), (0.1, 0.5, 2), (0.1, 0.5, NAN)], "thresholds"),
            ("image_fit", "crop"),
        ],
        inputs=(48, 52, 3),
        sublayers=1 + 1 + 46 + 1 + 1 + 2 + 1,
    ),
    Case(
        models.BackboneClassifier,
        {
            "num_labels": 3,
            "backbone": small_backbone(),
            "image_size": (32, 40),
            "num_downsamples": 1,
            "downsample_ratio": 3,
            "num_prefix_tokens": 1,
            "features": 6,
            "hidden_units": 5,
            "feature_dropout": 0.25,
            "codebook_initializer": initializer(),
            "batch_norm_momentum": 0.8,
            "label_names": ("a", "b", "c"),
            "thresholds": (0.1, 0.5, 0.9),
            "image_fit": "pad",
        },
        bad=[
            *bad_values(NOT_POSITIVE_INTEGERS, "num_labels", "features", "hidden_units"),
            *bad_values([48, (48,), (48, 52, 3), (48, None), (48.0, 52)], "image_size"),
            *bad_values([-1, 1.5], "num_downsamples", "num_prefix_tokens"),
            *bad_values([1, 0, 2.0, None], "downsample_ratio"),
            *bad_values([-0.1, 1.0, NAN, None], "feature_dropout"),
            *bad_values(NOT_MOMENTUMS, "batch_norm_momentum"),
            ("label_names", ("a", "b", "b")),
            ("thresholds", (0.1, 0.5, 2)),
            ("image_fit", "crop"),
        ],
        inputs=(32, 40, 3),
        sublayers=10 + 5,
        full_precision=("smaller_1", "cut", "flat", "first"),
    ),
    Case(
        models.ResNetClassifier,
        {
            "num_labels": 3,
            "image_size": (40, 48),
            "width": 0.05,
            "output_stride": 16,
            "batch_norm_momentum": 0.9,
            "label_names": ("a", "b", "c"),
            "thresholds": (0.1, 0.5, 0.9),
            "image_fit": "pad",
        },
        bad=[
            *bad_values(NOT_POSITIVE_INTEGERS, "num_labels"),
            *bad_values([48, (48,), (48, 52, 3), (48, None), (48.0, 52), (31, 52)], "image_size"),
            *bad_values([0, -0.5, 1.1, NAN, None], "width"),
            *bad_values([4, 64, None, "32"], "output_stride"),
            *bad_values(NOT_MOMENTUMS, "batch_norm_momentum"),
            *bad_values(["places365", True], "weights"),
            # Found out once the layers are made; as of `PatchClassifier`.
            ("label_names", ("a", "b", "b")),
            ("thresholds", (0.1, 0.5, 2)),
            ("image_fit", "crop"),
        ],
        inputs=(40, 48, 3),
        sublayers=6 + 7 + 4 * 12 + 8,  # of few blocks, see shallow_resnet.py
        calibrated=True,
    ),
    Case(
        losses.BinaryCrossentropy,
        {"label_reduction": "mean", "epsilon": 1e-3, "label_smoothing": 0.1},
        bad=[*LABEL_LOSS_BAD, *bad_values(NOT_SMOOTHINGS, "label_smoothing")],
        guesses=False,
    ),
    Case(
        losses.AssumeNegative,
        {"weight": "balanced", "label_reduction": "sum", "epsilon": 1e-3, "label_smoothing": 0.1},
        bad=[
            *LABEL_LOSS_BAD,
            *bad_values([-1, NAN, "1", None], "weight"),
            *bad_values(NOT_SMOOTHINGS, "label_smoothing"),
        ],
    ),
    Case(
        losses.ExpectedPositiveRegularization,
        {"expected_positives": 1.38, "label_reduction": "sum", "epsilon": 1e-3},
        bad=[*LABEL_LOSS_BAD, *bad_values([0, -1, NAN, "1", None], "expected_positives")],
    ),
    Case(
        losses.PairwiseRanking,
        {"label_reduction": "sum"},
        bad=NOT_REDUCTIONS,
        guesses=False,
    ),
    Case(
        losses.EntropyMaximization,
        {
            "alpha": 0.2,
            "beta": 0.5,
            "pseudo_labels": True,
            "label_reduction": "sum",
            "epsilon": 1e-3,
        },
        bad=[
            *LABEL_LOSS_BAD,
            *bad_values(NOT_WEIGHTS, "alpha", "beta"),
            *bad_values([1, None, "yes"], "pseudo_labels"),
        ],
    ),
    Case(
        losses.LargeLoss,
        {
            "scheme": "correct_permanently",
            "relative_increase": 0.04,
            "num_images": 4,
            "num_labels": 3,
            "label_reduction": "sum",
        },
        bad=[
            *NOT_REDUCTIONS,
            *bad_values([*NOT_POSITIVE_INTEGERS, None], "num_images", "num_labels"),
            *bad_values(["reject", "correct_temporarily"], "scheme"),  # which remember nothing
            *bad_values(["LL-R", None, 1], "scheme"),
            *bad_values([-0.1, 1.1, NAN, "0", None], "relative_increase"),
        ],
    ),
    Case(
        losses.Hill,
        {"weight_offset": 1.25, "margin": 0.5, "gamma": 1.5, "label_reduction": "mean"},
        bad=[
            *NOT_REDUCTIONS,
            *bad_values([0.9, NAN, "1", None], "weight_offset"),
            *bad_values(NOT_WEIGHTS, "margin", "gamma"),
        ],
    ),
    Case(
        losses.SelfPacedLossCorrection,
        {
            "tau": 0.7,
            "first_epoch": 2,
            "margin": 0.5,
            "gamma": 1.5,
            "label_reduction": "mean",
        },
        bad=[
            *NOT_REDUCTIONS,
            *bad_values([-0.1, 1.1, NAN, "0", None], "tau"),
            *bad_values([-1, 1.5, "1", None, True], "first_epoch"),
            *bad_values(NOT_WEIGHTS, "margin", "gamma"),
        ],
    ),
    Case(
        losses.AsymmetricLoss,
        {
            "gamma_positive": 0.5,
            "gamma_negative": 0.75,
            "probability_margin": 0.1,
            "stop_gradient": False,
            "label_reduction": "mean",
        },
        bad=[
            *NOT_REDUCTIONS,
            *bad_values(NOT_WEIGHTS, "gamma_positive", "gamma_negative"),
            *bad_values([-0.1, 1.0, NAN, "0", None], "probability_margin"),
            *bad_values([1, None, "yes"], "stop_gradient"),
        ],
    ),
    Case(
        losses.GeneralizedRobust,
        {
            "num_epochs": 5,
            "slope": (0.5, 3.0),
            "bias": (-3.0, -1.0),
            "mean": (0.25, 0.75),
            "deviation": (1.0, 0.25),
            "exponent_present": 0.5,
            "exponent_absent": 0.75,
            "label_reduction": "sum",
        },
        bad=[
            *NOT_REDUCTIONS,
            *bad_values(NOT_POSITIVE_INTEGERS, "num_epochs"),
            *bad_values(
                [1.0, (1.0,), (1.0, 2.0, 3.0), (NAN, 1.0), ("0", 1.0), None],
                "slope",
                "bias",
                "mean",
                "deviation",
            ),
            *bad_values([(0.0, 1.0), (1.0, -1.0)], "deviation"),
            *bad_values([0, -0.5, 1.1, NAN, None], "exponent_present", "exponent_absent"),
        ],
    ),
    Case(
        losses.RegularizedOnlineLabelEstimation,
        {
            "num_images": 4,
            "num_labels": 3,
            "expected_positives": 1.38,
            "seed": 7,
            "epsilon": 1e-3,
        },
        bad=[
            *bad_values([*NOT_POSITIVE_INTEGERS, None], "num_images", "num_labels"),
            *bad_values([0, -1, NAN, "1", None], "expected_positives"),
            *bad_values([-1, 1.5, "a"], "seed"),
            *bad_values([0, 1.0, NAN, "small"], "epsilon"),
        ],
    ),
    Case(
        losses.ExpectedNegative,
        {**EXPECTED_NEGATIVE, "consistency": "predictions"},
        bad=[
            *LABEL_LOSS_BAD,
            *bad_values(["average", True, 1], "consistency"),
            *bad_values(NOT_WEIGHTS, "consistency_weight"),
            *bad_values(["euclidean", None, 1], "distance"),
            *bad_values(NOT_POSITIVE_INTEGERS, "warmup_epochs"),
        ],
    ),
    Case(
        losses.ExpectedNegative,
        {**EXPECTED_NEGATIVE, "consistency": "score_maps"},
        bad=[("consistency", "maps")],
    ),
    Case(
        losses.WeakNegative,
        {"theta": 0.25, "stop_gradient": False},
        bad=[
            *bad_values([-1.1, 1.1, NAN, "0", None], "theta"),
            *bad_values([1, None, "yes"], "stop_gradient"),
        ],
        guesses=False,
    ),
    Case(
        optimizers.Lamb,
        {
            "learning_rate": 0.02,
            "beta_1": 0.8,
            "beta_2": 0.9,
            "epsilon": 1e-3,
            "weight_decay": 0.1,
            "no_weight_decay": ["bias"],
            "no_layer_adaptation": ["gamma"],
            "learning_rate_multipliers": {"bias": 2.0},
        },
        bad=[
            *bad_values([-0.1, 1.0, NAN, "a", None], "beta_1", "beta_2"),
            *bad_values([0, -1, NAN, None], "epsilon"),
            *bad_values([-1e-4, NAN, None], "weight_decay"),
            *bad_values([-1, NAN], "learning_rate"),
            *bad_values(["bias", 3, [1]], "no_weight_decay", "no_layer_adaptation"),
            *bad_values(
                [{"bias": -1}, {"bias": "2"}, {"bias": NAN}, {1: 2.0}, 3, ["bias"]],
                "learning_rate_multipliers",
            ),
        ],
    ),
]
