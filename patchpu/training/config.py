"""Every setting of a run, typed, with the presets. Imports no framework."""

import dataclasses
import pathlib
from typing import Literal

import yaml

from keras_patchpu.utils.validation import FileError, check_number, check_positive_integer

# Settings about where and how a run is run.
_NOT_THE_RESULT = (
    "output",
    "resume",
    "checkpoint_minutes",
    "tensorboard",
    "xla",
    "rematerialize",
)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of one training run.

    Where a preset says nothing, defaults are the paper's (section 4.1). A preset is
    chosen by `dataset`; a config file overrides it, and the command line overrides both.

    Args:
        dataset: What to train on; also chooses the preset. `digits` is built in; `voc` and
            `coco` are VOC 2012 and COCO 2014; `table` your own images.
        data_dir: Folder with the unpacked data set (voc, coco): VOCdevkit, or train2014, val2014
            and annotations. Without, TensorFlow Datasets downloads it.
        check_counts: Insist on the published numbers of images (voc, coco).
        table: Your own images: CSV or Parquet file with columns image and label (or labels,
            absent, split), or a folder with one folder per label. Sets dataset to table.
        allow_outside: Whether a table may name images outside its folder.
        validation_table: Table of validation images with all their labels, for mAP.
        validation_share: Share of your images to validate on, where no other is given.
        image_fit: `stretch` resizes without keeping the aspect ratio, `pad` keeps it.
        augment: Crop training images at random; flip and colour them too, but not digits.
        max_pixels: Larger images are refused.
        model: `patch` the paper's network, `resnet` the ResNet-50 it is compared with.
        loss: The paper's Table 1: `wn` weak negatives (the paper's), `bce` full labels, `an`
            assume negative, `epr` expected positive regularization, `role` online label
            estimation, `en_cl` and `en_scl` expected negatives with (spatial) consistency;
            further: `en` without, `iu` one known negative an image, `iun` all true negatives
            known (an oracle); `bce_ls` and `an_ls` with label smoothing, `wan` weak assumed
            negatives, `pr` pairwise ranking, `em` and `em_apl` entropy maximization without and
            with pseudo-labels, `ll_r`, `ll_ct` and `ll_cp` large losses rejected, corrected for
            a step or for good, `hill`, `splc`, `asl` asymmetric, `gr` generalized robust.
        loss_arguments: Further arguments of the loss's class, by name.
        epochs: Passes over the training images.
        batch_size: Images a step.
        learning_rate: Of LAMB, at the start.
        schedule: `halving` halves the rate after epochs 5, 10 and 15 (the paper's),
            `cosine` lowers it to 2 % over the run, `constant` keeps it.
        weight_decay: Of LAMB, inside the trust ratio.
        seed: Of the initial weights, the order of the images and the digit scenes.
        output: Run folder. Default: runs/DATASET-LOSS-seedSEED (resnet-LOSS for the ResNet).
        resume: Go on with the run in the folder, where it was stopped.
        checkpoint_minutes: Time after which an epoch under way is saved. The end of an epoch always
            is.
        tensorboard: Also write the values of each epoch for TensorBoard, into the folder
            tensorboard in the run folder; extra `tensorboard`.
        deterministic: Two runs on the same machine give equal bits: weights and metrics. Slower.
        xla: Whether XLA compiles the model: `auto` where it is faster, `on`, `off` (starts
            sooner: for a few steps).
        rematerialize: Compute the embedder's blocks a second time for their gradient: a third
            of the memory, more time, the same results.
        precision: Keras dtype policy: half precision is for GPUs, on a CPU it is slower.
        image_size: Side in pixels that images are resized to.
        patch_size: Side of a patch in pixels.
        num_downsamples: Smaller copies of the image, each half the side.
        strides: Step between patches in pixels; by default a patch, so that none overlap.
        max_patches_per_level: Random patches of each level in training; all by default.
        features: Size of the embeddings.
        hidden_units: Neurons of the pooling MLP.
        feed_forward: Whether an MLP follows the pooling, eq. (2).
        codebook_std: Standard deviation of the initial codebook; features ** -0.5 by
            default.
        codebook_rate: Factor of the learning rate for the codebook.
        batch_norm_momentum: Of the running statistics.
        theta: Similarity threshold of the weak negatives, eq. (7).
        stop_gradient: Whether weak negatives are constants for the gradient.
        negative_weight: Weight of the assumed negatives (`an`).
        expected_positives: Labels an image for `epr`, `role` and `en`; by default the mean of the
            true annotation of the training images.
        estimator_rate: Factor of the learning rate for the estimated labels (`role`).
        average_momentum: Of the running averages (`en`, `en_cl`, `en_scl`).
        pseudo_label_share: Share of the unknown labels that have a pseudo-label in the end
            (`em_apl`).
        pseudo_label_warmup: Epochs before the first pseudo-labels; by default half of them.
        second_label_share: Share of training images of which a second label is known, where
            they have one.
        resnet_width: Factor of the ResNet's numbers of channels.
        resnet_output_stride: Pixels to one place of its feature map: 32, 16 or 8.
        resnet_weights: `none` from scratch, or `imagenet`.
        num_train: Training scenes (digits).
        num_validation: Validation scenes (digits).
        difficulty: Of the scenes, 0 to 1 (digits).
        max_digits: Largest number of digits a scene, 1 to 4 (digits).
    """

    dataset: Literal["digits", "voc", "coco", "table"] = "digits"
    data_dir: str | None = None
    check_counts: bool = True
    table: str | None = None
    allow_outside: bool = False
    validation_table: str | None = None
    validation_share: float = 0.1
    image_fit: Literal["stretch", "pad"] = "stretch"
    augment: bool = False
    max_pixels: int = 100_000_000
    model: Literal["patch", "resnet"] = "patch"
    loss: Literal[
        *(
            "wn",
            "bce",
            "an",
            "epr",
            "role",
            "en",
            "en_cl",
            "en_scl",
            "iu",
            "iun",
            "bce_ls",
            "an_ls",
        ),
        *("wan", "pr", "em", "em_apl", "ll_r", "ll_ct", "ll_cp", "hill", "splc", "asl", "gr"),
    ] = "wn"
    loss_arguments: dict | None = None
    epochs: int = 25
    batch_size: int = 16
    learning_rate: float = 0.001
    schedule: Literal["halving", "cosine", "constant"] = "halving"
    weight_decay: float = 0.0001
    seed: int = 0
    output: str | None = None
    resume: bool = False
    checkpoint_minutes: float = 10.0
    tensorboard: bool = False
    deterministic: bool = False
    xla: Literal["auto", "on", "off"] = "auto"
    rematerialize: bool = False
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    image_size: int = 640
    patch_size: int = 64
    num_downsamples: int = 3
    strides: int | None = None
    max_patches_per_level: int | None = None
    features: int = 256
    hidden_units: int = 256
    feed_forward: bool = True
    codebook_std: float | None = None
    codebook_rate: float = 1.0
    batch_norm_momentum: float = 0.99
    theta: float = 0.0
    stop_gradient: bool = True
    negative_weight: float = 1.0
    expected_positives: float | None = None
    estimator_rate: float = 10.0
    average_momentum: float = 0.8
    pseudo_label_share: float = 0.9
    pseudo_label_warmup: int | None = None
    second_label_share: float = 0.0
    resnet_width: float = 1.0
    resnet_output_stride: Literal[32, 16, 8] = 32
    resnet_weights: Literal["none", "imagenet"] = "none"
    num_train: int = 16000
    num_validation: int = 2000
    difficulty: float = 0.25
    max_digits: int = 3

    def __post_init__(self):
        for name, value in vars(self).items():
            if value != value:  # NaN, with which a run could not be resumed: no NaN is another's
                raise ValueError(f"Expected `{name}` to be a number. Received: {name}={value!r}")
        _check_loss_arguments(self.loss_arguments or {})
        for name in ("epochs", "batch_size", "image_size", "num_train", "num_validation"):
            check_positive_integer(name, getattr(self, name))
        check_positive_integer("seed", self.seed, minimum=0)
        check_positive_integer("max_pixels", self.max_pixels)
        check_number("validation_share", self.validation_share, above=0, below=1)
        if (self.dataset == "table") != (self.table is not None):
            raise ValueError(
                "Expected --table with --dataset table, and only with it. Received: "
                f"dataset={self.dataset}, table={self.table}"
            )
        check_number("checkpoint_minutes", self.checkpoint_minutes, minimum=0)
        check_number("learning_rate", self.learning_rate, above=0)
        check_number("weight_decay", self.weight_decay, minimum=0)
        check_number("codebook_rate", self.codebook_rate, minimum=0)
        check_number("estimator_rate", self.estimator_rate, minimum=0)
        check_number("average_momentum", self.average_momentum, minimum=0, below=1)
        check_number("second_label_share", self.second_label_share, minimum=0, maximum=1)
        check_number("pseudo_label_share", self.pseudo_label_share, minimum=0, maximum=1)
        if self.pseudo_label_warmup is not None:
            check_positive_integer("pseudo_label_warmup", self.pseudo_label_warmup)
        if self.loss == "en_scl" and self.augment and self.image_fit == "pad":
            raise ValueError(
                "Expected --image-fit stretch with --loss en_scl and --augment: with pad the crops "
                "of the heat maps are not those of the images. Received: pad"
            )
        if self.codebook_std is not None:
            check_number("codebook_std", self.codebook_std, above=0)
        if self.output is None:
            kind = self.loss if self.model == "patch" else f"{self.model}-{self.loss}"
            output = pathlib.Path("runs", f"{self.dataset}-{kind}-seed{self.seed}")
            object.__setattr__(self, "output", str(output))

    def settings(self):
        """What decides the result, as a dict: everything but where and how it is run."""
        values = dataclasses.asdict(self)
        for name in _NOT_THE_RESULT:
            del values[name]
        return values

    def to_yaml(self):
        return yaml.safe_dump(self.settings(), sort_keys=False)


def read_settings(path):
    """The mapping in a run's config.yaml, or `None` if there is no such file.

    Raises:
        FileError: It is damaged, or no mapping.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return None
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FileError(f"{path} is damaged: {error}") from error
    if not isinstance(settings, dict):
        raise FileError(
            f"Expected {path} to hold the settings of a run. Received: {str(settings)[:80]!r}"
        )
    return settings


def differences(config, saved, place="folder"):
    """How saved settings differ from those of a `TrainConfig`: list of strings."""
    # Settings that a run of an earlier version did not have had the value of their default.
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    saved = {**defaults, **saved}
    return [
        f"{name}: {saved[name]!r} in the {place}, {value!r} now"
        for name, value in config.settings().items()
        if saved[name] != value
    ]


def _check_loss_arguments(values):
    """Raises a ValueError unless they are written as YAML and read again the same."""
    plain = (str, int, float, bool, type(None))
    for name, value in values.items():
        listed = value if isinstance(value, list) else [value]
        if not isinstance(name, str) or not all(isinstance(item, plain) for item in listed):
            raise ValueError(
                "Expected `loss_arguments` to be names with numbers, text or lists of them. "
                f"Received: {name!r} with a value of type {type(value).__name__}"
            )


# Settings by data set where they differ from the paper's.
PRESETS = {
    # Command: python train.py. Chosen by measurement, see results/digits/README.md.
    "digits": {
        "epochs": 5,
        "learning_rate": 0.003,
        "schedule": "cosine",
        "image_size": 64,
        "patch_size": 16,
        "num_downsamples": 2,
        "codebook_std": 0.02,
        "codebook_rate": 3.0,
        "batch_norm_momentum": 0.98,
    },
    # For machines without a GPU and images by the hundred: the paper's 640 and 64 cost six times.
    # Patches of every level, 8x8 to 1x1, cover the whole image; at 224 they would not.
    "table": {
        "learning_rate": 0.003,
        "schedule": "cosine",
        "image_size": 256,
        "patch_size": 32,
        "codebook_std": 0.02,
        "codebook_rate": 3.0,
        "batch_norm_momentum": 0.9,
    },
    # The paper gives the mean number of labels an image for EPR.
    "voc": {"expected_positives": 1.38},
    "coco": {"expected_positives": 2.92},
}
