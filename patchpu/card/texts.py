"""What a model card says of data, losses and protocol."""

import pathlib

from keras_patchpu.backbones import licence
from patchpu.training.losses import LOSSES

CITATION = """\
@inproceedings{jouanneau2023patch,
  title = {A Patch-Based Architecture for Multi-Label Classification from Single Positive Annotations},
  author = {Jouanneau, Warren and Bugeau, Aurélie and Palyart, Marc and Papadakis, Nicolas and Vézard, Laurent},
  booktitle = {Proceedings of the 18th International Conference on Computer Vision Theory and Applications (VISAPP)},
  year = {2023}
}"""  # noqa: E501

DATA = {
    "digits": "Scenes drawn by `keras_patchpu`: 1 to {max_digits} handwritten digits on a "
    "background of {image_size} x {image_size} pixels, difficulty {difficulty}. A scene's labels "
    "are the digits that it shows. The digits are those that scikit-learn brings (`load_digits`).",
    "voc": "PASCAL VOC 2012, 20 labels; labels without difficult objects.",
    "coco": "COCO 2014, 80 labels; images with at least one label.",
    "table": "The author's own images and labels. What they show, where they are from and how many "
    "there are is not recorded in the run folder.",
}


def observed_text(settings):
    """Which labels of the training images the loss saw."""
    if settings["dataset"] == "table":
        return "those that the author's table lists; all others count as unknown."
    observes = LOSSES[settings["loss"]].observes
    if observes == "all labels":
        return "all of them."
    text = "one present label an image, drawn uniformly among its true ones (the draw published by "
    text += "Cole et al., with its fixed seed)"
    if settings.get("second_label_share"):
        share = f"{settings['second_label_share']:.0%}"
        text += f", and a second one, where there is one, in {share} of the images"
    if observes == "one positive and one negative":
        text += ", and one absent label"
    if observes == "one positive and all negatives":
        text += ", and every absent label"
    return f"{text}; all others count as unknown."


def split_text(settings):
    """What was trained and what was scored on."""
    if settings["dataset"] == "digits":
        return (
            f"{settings['num_train']:,} training scenes, drawn anew for each seed; "
            f"{settings['num_validation']:,} validation scenes made of digits that no training "
            "scene shows, the same for every seed."
        )
    if settings["dataset"] == "table":
        if settings["validation_table"] is not None:
            return "validation images of a table of their own, with all their labels."
        return (
            "the column `split` of the author's table, or without one a random share of "
            f"{settings['validation_share']:.0%}, drawn by the seed, for validation."
        )
    names = {
        "voc": "the official `train` (5,717 images) to train and `val` (5,823 images)",
        "coco": "`train2014` (82,081 images) to train and `val2014` (40,137 images)",
    }
    checked = "were checked" if settings["check_counts"] else "were **not** checked"
    return f"{names[settings['dataset']]} to validate; these published numbers {checked}."


def pretrained_text(settings):
    """Whose weights a model began with, and their licence; `None` if it began with random ones."""
    names = {
        "backbone": (settings["backbone"], settings["backbone_weights"]),
        "resnet": ("resnet50", settings["resnet_weights"]),
    }
    name, weights = names.get(settings["model"], (None, "none"))
    if weights == "none":
        return None
    shown = pathlib.PurePath(name).name if name.endswith(".keras") else name
    return f"It is made of the pretrained weights of `{shown}`; their licence: {licence(name)}."
