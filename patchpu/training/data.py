"""The data of a run: images and labels to train and to validate on."""

import dataclasses
import math

import numpy as np

from keras_patchpu.datasets import (
    FileBatches,
    ImageBatches,
    ImageFiles,
    load_coco,
    load_digit_scenes,
    load_table,
    load_voc,
    observe_uniform,
    split_by_seed,
)
from keras_patchpu.datasets.read_image import read_image
from patchpu.training.losses import LOSSES


@dataclasses.dataclass(frozen=True)
class RunData:
    """What a run trains and validates on.

    Attributes:
        train, validation: `Digits`, or `ImageFiles` with the labels known.
        observed: `(N, L)` labels to train on, in {+1, 0, -1}.
        expected_positives: Mean number of labels a training image, or `None` if not known.
    """

    train: object
    validation: object
    observed: np.ndarray
    expected_positives: float | None

    @property
    def fully_annotated(self):
        """Whether of every validation image every label is known."""
        return not isinstance(self.validation, ImageFiles) or self.validation.fully_annotated

    @property
    def true_training_labels(self):
        """`(N, L)`, above 0 where present, or `None` if not every label is known."""
        if isinstance(self.train, ImageFiles) and not self.train.fully_annotated:
            return None
        return self.train.labels

    def steps_per_epoch(self, config):
        count = len(self.observed)
        return math.ceil(count * passes(config, count) / config.batch_size)

    def training_batches(self, config, epoch, targets=None):
        """Shuffled batches for `fit`; the order depends on the seed and the epoch only.

        Args:
            config: `TrainConfig`.
            epoch: Number of epochs already done.
            targets: What batches give the loss besides labels, see `ImageBatches`.
        """
        if isinstance(self.train, ImageFiles):
            return self._file_batches(
                self.train,
                config,
                self.observed,
                seed=config.seed,
                epoch=epoch,
                augment=config.augment,
                targets=targets,
            )
        return ImageBatches(
            self.train.images,
            self.observed,
            config.batch_size,
            config.seed,
            epoch,
            augment=config.augment,
            targets=targets,
        )

    def training_images(self, config):
        """The training images as they are, in the order of the labels, for `predict`."""
        if isinstance(self.train, ImageFiles):
            return self._file_batches(self.train, config)
        return self.train.images

    def first_training_images(self, config, count):
        """The same of the first images only, not kept in memory if they are files."""
        if isinstance(self.train, ImageFiles):
            return self._file_batches(self.train.take(range(count)), config, cache_bytes=0)
        return self.train.images[:count]

    def validation_images(self, config):
        """What `predict` takes, in the order of the validation labels."""
        if isinstance(self.validation, ImageFiles):
            return self._file_batches(self.validation, config)
        return self.validation.images

    def read_once(self, config, validation=False, copy=0):
        """Yields numbers `(B,)` of images and the images `(B, H, W, 3)`, each image once.

        Args:
            config: `TrainConfig`.
            validation: Whether of the validation images, not of the training images.
            copy: Which of the random copies of the training images; 0 are they themselves.
        """
        images = self.validation if validation else self.train
        options = {"seed": config.seed, "epoch": copy, "augment": copy > 0}
        if isinstance(images, ImageFiles):
            batches = self._file_batches(images, config, cache_bytes=0, **options)
        else:
            batches = ImageBatches(images.images, images.labels, config.batch_size, **options)
        for index in range(len(batches)):
            yield batches.numbers(index), batches[index][0]

    def check_images(self, config):
        """Reads every image once; names those that cannot be read."""
        for files in (self.train, self.validation):
            self._file_batches(files, config, cache_bytes=0).check()

    def validation_image(self, index, config):
        """One validation image as the model sees it, uint8 `(H, W, 3)`."""
        if not isinstance(self.validation, ImageFiles):
            return self.validation.images[index]
        size = (config.image_size, config.image_size)
        source = self.validation.sources[index]
        return read_image(source, size, config.image_fit, max_pixels=config.max_pixels)

    def _file_batches(self, files, config, labels=None, **options):
        return FileBatches(
            files,
            (config.image_size, config.image_size),
            config.batch_size,
            fit=config.image_fit,
            labels=labels,
            max_pixels=config.max_pixels,
            **options,
        )


def passes(config, num_images):
    """How often an epoch goes through so many training images."""
    if config.model != "backbone":
        return 1
    return math.ceil(config.least_steps * config.batch_size / num_images)


def load_data(config):
    """Reads labels and finds images; pixels are read later.

    Args:
        config: `TrainConfig`.

    Returns:
        `RunData`.

    Raises:
        ValueError: The data are not there, or do not fit the settings.
    """
    if config.dataset == "digits":
        train = load_digit_scenes(
            config.num_train,
            "train",
            config.image_size,
            config.max_digits,
            difficulty=config.difficulty,
            seed=config.seed,
        )
        # The same validation scenes for every seed of the run.
        validation = load_digit_scenes(
            config.num_validation,
            "validation",
            config.image_size,
            config.max_digits,
            difficulty=config.difficulty,
        )
    elif config.dataset == "table":
        return _load_own_images(config)
    else:
        load = {"voc": load_voc, "coco": load_coco}[config.dataset]
        train, validation = (
            load(split, config.data_dir, check_counts=config.check_counts)
            for split in ("train", "validation")
        )
    true = train.labels > 0
    observed = _observed(config, true.astype("int8"))
    return RunData(train, validation, observed, float(true.sum(1).mean()))


def _observed(config, true):
    """What of the true annotation 0/1 the loss may know, in {+1, 0, -1}."""
    observes = LOSSES[config.loss].observes
    if observes == "all labels":
        return np.where(true, 1, -1).astype("int8")
    num_negatives = 1 if observes == "one positive and one negative" else 0
    observed = observe_uniform(true, num_negatives=num_negatives)
    if config.second_label_share:
        # The first of two drawn is the one drawn alone.
        second = observe_uniform(true, num_positives=2)
        random = np.random.default_rng(1200)
        chosen = random.random(len(true)) < config.second_label_share
        observed[chosen] = np.maximum(observed, second)[chosen]
    if observes == "one positive and all negatives":
        observed[true == 0] = -1
    return observed


def _load_own_images(config):
    tables = load_table(config.table, allow_outside=config.allow_outside)
    train, validation = tables.train, tables.validation
    if config.validation_table is not None:
        # Small and fully labelled: what is not listed is absent.
        other = load_table(
            config.validation_table,
            unlisted="absent",
            label_names=train.label_names,
            allow_outside=config.allow_outside,
        )
        if validation is None:
            validation = other.train
        else:
            raise ValueError(
                f"Expected validation images from one place. Received: a column `split` in "
                f"{config.table} and --validation-table {config.validation_table}"
            )
    elif validation is None:
        train, validation = split_by_seed(train, config.validation_share, config.seed)
    _check_loss_of_own_images(config, train)
    if not (train.labels > 0).any():
        raise ValueError(
            f"Expected training images with a known label. Received: none in {config.table}"
        )
    return RunData(train, validation, train.labels, config.expected_positives)


def _check_loss_of_own_images(config, train):
    """Raises a ValueError if the loss wants to know more than one's own labels tell."""
    row = LOSSES[config.loss]
    if row.observes == "all labels" and not train.fully_annotated:
        raise ValueError(
            f"--loss {config.loss} needs every label of every image known; of these images some "
            "are unknown. Use wn, an or epr, or list what is absent in a column `absent`."
        )
    if row.observes == "one positive and all negatives":
        raise ValueError(
            f"--loss {config.loss} needs every true label, as the published data sets have it."
        )
    if "expected_positives" in row.settings and config.expected_positives is None:
        raise ValueError(
            f"--loss {config.loss} needs --expected-positives, the mean number of labels an "
            "image: with some labels unknown it cannot be counted."
        )
