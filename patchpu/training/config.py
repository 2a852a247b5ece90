"""Every setting of a run, typed, with the presets."""

import dataclasses
import pathlib
from typing import Literal

import yaml

from patchpu.training.losses import LOSSES
from patchpu.training.setting import check_loss_arguments, check_setting, setting


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of one training run; `patchpu train --help` lists them.

    Where a preset says nothing, defaults are the paper's (section 4.1). A preset is
    chosen by `dataset`; a config file overrides it, and the command line overrides both.

    Raises:
        ValueError: A setting is out of range, or two do not go together.
    """

    dataset: Literal["digits", "voc", "coco", "table"] = setting(
        "digits",
        "What to train on; also chooses the preset. `digits` is built in; `voc` and `coco` are "
        "VOC 2012 and COCO 2014; `table` your own images.",
        in_card=True,
    )
    data_dir: str | None = setting(
        None,
        "Folder with the unpacked data set: VOCdevkit, or train2014, val2014 and annotations. "
        "Without, TensorFlow Datasets downloads it.",
        of="voc, coco",
        in_card=True,
    )
    check_counts: bool = setting(True, "Insist on the published numbers of images.", of="voc, coco")
    table: str | None = setting(
        None,
        "Your own images: CSV or Parquet file with columns image and label (or labels, absent, "
        "split), or a folder with one folder per label. Sets dataset to table.",
        in_card=True,
    )
    allow_outside: bool = setting(
        False, "Whether a table may name images outside its folder.", of="table"
    )
    validation_table: str | None = setting(
        None, "Table of validation images with all their labels, for mAP.", of="table", in_card=True
    )
    validation_share: float = setting(
        0.1,
        "Share of your images to validate on, where no other is given.",
        of="table",
        above=0,
        below=1,
    )
    image_fit: Literal["stretch", "pad"] = setting(
        "stretch", "`stretch` resizes without keeping the aspect ratio, `pad` keeps it."
    )
    augment: bool = setting(
        False, "Crop training images at random; flip and colour them too, but not digits."
    )
    max_pixels: int = setting(100_000_000, "Larger images are refused.", minimum=1)
    model: Literal["patch", "backbone", "resnet"] = setting(
        "patch",
        "`patch` the paper's network; `backbone` its blocks 3 to 5 over a pretrained network; "
        "`resnet` the ResNet-50 it is compared with.",
        decides="both",
    )
    loss: str = setting("wn", "Loss", decides="both", choices=LOSSES, in_card=True)
    loss_arguments: dict | None = setting(
        None, "Further arguments of the loss's class, by name.", in_card=True
    )
    epochs: int = setting(25, "Passes over the training images.", in_card=True, minimum=1)
    batch_size: int = setting(16, "Images a step.", decides="both", in_card=True, minimum=1)
    learning_rate: float = setting(0.001, "Of LAMB, at the start.", in_card=True, above=0)
    schedule: Literal["halving", "cosine", "constant"] = setting(
        "halving",
        "`halving` halves the rate after epochs 5, 10 and 15 (the paper's), `cosine` lowers it to "
        "2 % over the run, `constant` keeps it.",
        in_card=True,
    )
    weight_decay: float = setting(
        0.0001, "Of LAMB, inside the trust ratio.", in_card=True, minimum=0
    )
    seed: int = setting(
        0,
        "Of the initial weights, the order of the images and the digit scenes.",
        in_card=True,
        minimum=0,
    )
    output: str | None = setting(
        None,
        "Run folder. Default: runs/DATASET-LOSS-seedSEED (resnet-LOSS for the ResNet).",
        decides="place",
    )
    resume: bool = setting(
        False, "Go on with the run in the folder, where it was stopped.", decides="place"
    )
    checkpoint_minutes: float = setting(
        10.0,
        "Time after which an epoch under way is saved. The end of an epoch always is.",
        decides="place",
        minimum=0,
    )
    tensorboard: bool = setting(
        False,
        "Also write the values of each epoch for TensorBoard, into the folder tensorboard in the "
        "run folder; extra `tensorboard`.",
        decides="place",
    )
    deterministic: bool = setting(
        False,
        "Two runs on the same machine give equal bits: weights and metrics. Slower.",
        decides="both",
    )
    xla: Literal["auto", "always", "never"] = setting(
        "auto",
        "Whether XLA compiles the model: `auto` where it is faster, `always`, `never` (starts "
        "sooner: for a few steps).",
        decides="speed",
    )
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = setting(
        "float32",
        "Keras dtype policy: half precision is for GPUs, on a CPU it is slower.",
        decides="both",
        in_card=True,
    )
    image_size: int = setting(
        640, "Side in pixels that images are resized to.", decides="both", in_card=True, minimum=1
    )
    patch_size: int = setting(64, "Side of a patch in pixels.", decides="both", of="patch")
    num_downsamples: int = setting(
        3, "Smaller copies of the image, each half the side.", decides="both", of="patch, backbone"
    )
    strides: int | None = setting(
        None,
        "Step between patches in pixels; by default a patch, so that none overlap.",
        decides="both",
        of="patch",
    )
    max_patches_per_level: int | None = setting(
        None,
        "Random patches of each level in training; all by default.",
        decides="both",
        of="patch",
    )
    features: int = setting(256, "Size of the embeddings.", decides="both", of="patch, backbone")
    hidden_units: int = setting(
        256, "Neurons of the pooling MLP.", decides="both", of="patch, backbone"
    )
    feed_forward: bool = setting(
        True, "Whether an MLP follows the pooling, eq. (2).", decides="both", of="patch, backbone"
    )
    codebook_std: float | None = setting(
        None,
        "Standard deviation of the initial codebook; features ** -0.5 by default.",
        of="patch, backbone",
        above=0,
    )
    codebook_rate: float = setting(
        1.0, "Factor of the learning rate for the codebook.", of="patch, backbone", minimum=0
    )
    batch_norm_momentum: float = setting(0.99, "Of the running statistics.")
    theta: float = setting(0.0, "Similarity threshold of the weak negatives, eq. (7).", of="loss")
    stop_gradient: bool = setting(
        True, "Whether weak negatives are constants for the gradient.", decides="both", of="loss"
    )
    negative_weight: float = setting(1.0, "Weight of the assumed negatives.", of="loss")
    expected_positives: float | None = setting(
        None,
        "Labels an image; by default the mean of the true annotation of the training images.",
        of="loss",
    )
    estimator_rate: float = setting(
        10.0, "Factor of the learning rate for the estimated labels.", minimum=0, of="loss"
    )
    average_momentum: float = setting(
        0.8, "Of the running averages.", minimum=0, below=1, of="loss"
    )
    pseudo_label_share: float = setting(
        0.9,
        "Share of the unknown labels that have a pseudo-label in the end.",
        minimum=0,
        maximum=1,
        of="loss",
    )
    pseudo_label_warmup: int | None = setting(
        None,
        "Epochs before the first pseudo-labels; by default half of them.",
        minimum=1,
        of="loss",
    )
    second_label_share: float = setting(
        0.0,
        "Share of training images of which a second label is known, where they have one.",
        in_card=True,
        minimum=0,
        maximum=1,
    )
    backbone: str = setting(
        "efficientnet_lite0", "Name of the pretrained network.", decides="both", of="backbone"
    )
    backbone_weights: Literal["imagenet", "none"] = setting(
        "imagenet", "`imagenet`, or `none`: random ones.", of="backbone"
    )
    backbone_stride: Literal[32, 16, 8] = setting(
        32, "Pixels to one place of its feature map: 32, 16 or 8.", decides="both", of="backbone"
    )
    feature_dropout: float = setting(
        0.5,
        "Share of its features that training leaves out, of an image at all places alike.",
        of="backbone",
        minimum=0,
        below=1,
    )
    least_steps: int = setting(
        25,
        "Least steps an epoch: of few images, an epoch goes through them several times.",
        decides="both",
        of="backbone",
        minimum=1,
    )
    augmented_copies: int = setting(
        4,
        "With --augment: random copies of each training image that its features are kept of.",
        of="backbone",
        minimum=1,
    )
    resnet_width: float = setting(
        1.0, "Factor of the ResNet's numbers of channels.", decides="both", of="resnet"
    )
    resnet_output_stride: Literal[32, 16, 8] = setting(
        32, "Pixels to one place of its feature map: 32, 16 or 8.", decides="both", of="resnet"
    )
    resnet_weights: Literal["none", "imagenet"] = setting(
        "none", "`none` from scratch, or `imagenet`.", decides="both", of="resnet"
    )
    num_train: int = setting(16000, "Training scenes.", of="digits", in_card=True, minimum=1)
    num_validation: int = setting(2000, "Validation scenes.", of="digits", in_card=True, minimum=1)
    difficulty: float = setting(0.25, "Of the scenes, 0 to 1.", of="digits", in_card=True)
    max_digits: int = setting(
        3, "Largest number of digits a scene, 1 to 4.", of="digits", in_card=True
    )

    def __post_init__(self):
        for field in dataclasses.fields(self):
            check_setting(field, getattr(self, field.name))
        check_loss_arguments(self.loss_arguments or {})
        if (self.dataset == "table") != (self.table is not None):
            raise ValueError(
                "Expected --table with --dataset table, and only with it. Received: "
                f"dataset={self.dataset}, table={self.table}"
            )
        averages_maps = LOSSES[self.loss].remembers == "average maps"
        if averages_maps and self.augment and self.image_fit == "pad":
            raise ValueError(
                f"Expected --image-fit stretch with --loss {self.loss} and --augment: with pad the "
                "crops of the heat maps are not those of the images. Received: pad"
            )
        if self.output is None:
            kind = self.loss if self.model == "patch" else f"{self.model}-{self.loss}"
            output = pathlib.Path("runs", f"{self.dataset}-{kind}-seed{self.seed}")
            object.__setattr__(self, "output", str(output))

    @property
    def jit_compile(self):
        """`xla`, as `keras.Model.compile` takes it."""
        return {"auto": "auto", "always": True, "never": False}[self.xla]

    def settings(self):
        """What decides the result, as a dict: everything but where and how it is run."""
        values = dataclasses.asdict(self)
        return {name: values[name] for name in names_of_settings("result")}

    def to_yaml(self):
        return yaml.safe_dump(self.settings(), sort_keys=False)


def names_of_settings(decided):
    """Names of the settings that decide the `"result"`, or the `"speed"` of a step."""
    fields = dataclasses.fields(TrainConfig)
    return [field.name for field in fields if field.metadata["decides"] in (decided, "both")]
