"""The table of losses: all that the tool knows of each loss it can train with.

To add a loss, write its class in a file of `keras_patchpu/losses`, and a row here; where a class of
other arguments will do, a row alone. Settings, help, data, training, estimates and model cards read
the rows.
"""

from patchpu.training.loss_row import LossRow

_JOUANNEAU = "Jouanneau et al., VISAPP 2023"
_COLE = "Cole et al., CVPR 2021"
_VERELST = "Verelst et al., WACV 2023"
_ZHOU = "Zhou et al., ECCV 2022"
_KIM = "Kim et al., CVPR 2022"
_ZHANG = "Zhang et al., 2021, arXiv 2112.07368"

_MEAN = {"label_reduction": "mean"}
_SMOOTH = {"label_smoothing": 0.1}
_ONE_ROW_AN_IMAGE = {"num_images": "num_images", "num_labels": "num_labels"}
# The authors' for VOC; those for COCO are the defaults of the class.
_ENTROPY_ON = {"voc": {"alpha": 0.2, "beta": 0.02}}

_ROWS = (
    LossRow(
        "wn",
        "weak negatives, the paper's",
        "A label without annotation counts as absent to the degree that it attends to the same "
        "patches as the annotated label.",
        _JOUANNEAU,
        "keras_patchpu.losses.weak_negative.WeakNegative",
        takes={"theta": "theta", "stop_gradient": "stop_gradient"},
        adds_to_step=True,
        weak_negatives=True,
    ),
    LossRow(
        "bce",
        "binary cross-entropy, full labels",
        "Cross entropy of all labels, every one of which is known.",
        _JOUANNEAU,
        "keras_patchpu.losses.binary_crossentropy.BinaryCrossentropy",
        observes="all labels",
    ),
    LossRow(
        "an",
        "assume negative",
        "Every label without annotation counts as absent.",
        _COLE,
        "keras_patchpu.losses.binary_crossentropy.AssumeNegative",
        takes={"weight": "negative_weight"},
    ),
    LossRow(
        "epr",
        "expected positive regularization",
        "Only annotated labels count, and the mean number of predicted labels is held to the "
        "expected one.",
        _COLE,
        "keras_patchpu.losses.binary_crossentropy.ExpectedPositiveRegularization",
        takes={"expected_positives": "expected_positives"},
    ),
    LossRow(
        "role",
        "regularized online label estimation",
        "The labels of every training image are parameters, which learn beside the network and "
        "are held to the expected number of labels.",
        _COLE,
        "keras_patchpu.losses.regularized_online_label_estimation.RegularizedOnlineLabelEstimation",
        takes={**_ONE_ROW_AN_IMAGE, "expected_positives": "expected_positives", "seed": "seed"},
        remembers="estimated labels",
        adds_to_step=True,
    ),
    LossRow(
        "en",
        "expected negatives",
        "As many labels as are expected to be present are left out, those of the highest average "
        "predictions; the others without annotation count as absent.",
        _VERELST,
        "keras_patchpu.losses.expected_negative.ExpectedNegative",
        remembers="averages",
    ),
    LossRow(
        "en_cl",
        "expected negatives with consistency",
        "Expected negatives, and predictions are held to their own averages.",
        _VERELST,
        "keras_patchpu.losses.expected_negative.ExpectedNegative",
        arguments={"consistency": "predictions"},
        remembers="averages",
    ),
    LossRow(
        "en_scl",
        "expected negatives with spatial consistency",
        "Expected negatives, and score maps are held to their own averages.",
        _VERELST,
        "keras_patchpu.losses.expected_negative.ExpectedNegative",
        arguments={"consistency": "score_maps"},
        remembers="average maps",
        adds_to_step=True,
    ),
    LossRow(
        "iu",
        "ignore unknown, one known negative an image",
        "Cross entropy of one label known present and one known absent; the others are left out.",
        _COLE,
        "keras_patchpu.losses.binary_crossentropy.BinaryCrossentropy",
        arguments=_MEAN,
        observes="one positive and one negative",
    ),
    LossRow(
        "iun",
        "ignore unknown, all true negatives known (an oracle)",
        "Cross entropy of one label known present and all that are absent; the other present ones "
        "are left out.",
        _COLE,
        "keras_patchpu.losses.binary_crossentropy.BinaryCrossentropy",
        arguments=_MEAN,
        observes="one positive and all negatives",
    ),
    LossRow(
        "bce_ls",
        "binary cross-entropy with label smoothing, full labels",
        "Cross entropy of all labels with targets of 0.9 and 0.1.",
        _COLE,
        "keras_patchpu.losses.binary_crossentropy.BinaryCrossentropy",
        arguments={**_MEAN, **_SMOOTH},
        observes="all labels",
    ),
    LossRow(
        "an_ls",
        "assume negative with label smoothing",
        "Every label without annotation counts as absent, with targets of 0.9 and 0.1.",
        _COLE,
        "keras_patchpu.losses.binary_crossentropy.AssumeNegative",
        arguments=_SMOOTH,
    ),
    LossRow(
        "wan",
        "weak assume negative",
        "Every label without annotation counts as absent; together they count as much as one "
        "annotated label.",
        _COLE,
        "keras_patchpu.losses.binary_crossentropy.AssumeNegative",
        arguments={"weight": "balanced"},
    ),
    LossRow(
        "pr",
        "pairwise ranking",
        "Every annotated label is to be ranked above those without annotation.",
        _COLE,
        "keras_patchpu.losses.pairwise_ranking.PairwiseRanking",
    ),
    LossRow(
        "em",
        "entropy maximization",
        "Labels without annotation are held uncertain.",
        _ZHOU,
        "keras_patchpu.losses.entropy_maximization.EntropyMaximization",
        arguments_on=_ENTROPY_ON,
    ),
    LossRow(
        "em_apl",
        "entropy maximization with pseudo-labels",
        "Labels without annotation are held uncertain, until the least probable get their "
        "predictions as targets.",
        _ZHOU,
        "keras_patchpu.losses.entropy_maximization.EntropyMaximization",
        arguments={"pseudo_labels": True},
        arguments_on=_ENTROPY_ON,
        remembers="pseudo-labels",
    ),
    LossRow(
        "ll_r",
        "large loss, rejected",
        "Labels without annotation count as absent, but those of the largest loss are left out.",
        _KIM,
        "keras_patchpu.losses.large_loss.LargeLoss",
        arguments={"scheme": "reject"},
    ),
    LossRow(
        "ll_ct",
        "large loss, corrected temporarily",
        "Labels without annotation count as absent, but those of the largest loss count as "
        "present for the step.",
        _KIM,
        "keras_patchpu.losses.large_loss.LargeLoss",
        arguments={"scheme": "correct_temporarily"},
    ),
    LossRow(
        "ll_cp",
        "large loss, corrected permanently",
        "Labels without annotation count as absent, but those of the largest loss count as "
        "present from then on.",
        _KIM,
        "keras_patchpu.losses.large_loss.LargeLoss",
        arguments={"scheme": "correct_permanently"},
        takes=_ONE_ROW_AN_IMAGE,
        remembers="corrections",
        adds_to_step=True,
    ),
    LossRow(
        "hill",
        "Hill",
        "Labels without annotation count as absent, confidently predicted ones less than others.",
        _ZHANG,
        "keras_patchpu.losses.missing_labels.Hill",
    ),
    LossRow(
        "splc",
        "self-paced loss correction",
        "Labels without annotation count as absent, but confidently predicted ones as present "
        "after the first epoch.",
        _ZHANG,
        "keras_patchpu.losses.missing_labels.SelfPacedLossCorrection",
    ),
    LossRow(
        "asl",
        "asymmetric loss",
        "Labels without annotation count as absent, and the easy ones hardly at all.",
        "Ridnik et al., ICCV 2021",
        "keras_patchpu.losses.asymmetric_loss.AsymmetricLoss",
    ),
    LossRow(
        "gr",
        "generalized robust loss",
        "A label without annotation is a mixture of present and absent, by its own probability.",
        "Chen et al., IJCAI 2024",
        "keras_patchpu.losses.generalized_robust.GeneralizedRobust",
        takes={"num_epochs": "epochs"},
    ),
)

LOSSES = {row.name: row for row in _ROWS}
