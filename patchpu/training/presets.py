"""Settings by data set and model where they differ from the paper's."""

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
# Of any data set; chosen on photographs, see results/photographs/README.md.
_BACKBONE = {
    "epochs": 10,
    "batch_size": 32,
    "learning_rate": 0.004,
    "schedule": "cosine",
    "image_size": 320,
    "num_downsamples": 0,
    "codebook_std": 0.02,
    "codebook_rate": 1.0,
    "batch_norm_momentum": 0.9,
    # All similarities of these embeddings are near 1: with the paper's 0 `wn` is `an`.
    "theta": 0.9,
}


def default_model(dataset):
    """The model for a data set, where nobody says which."""
    return "backbone" if dataset == "table" else "patch"


def preset(dataset, model):
    """Settings of a data set and of the model that is trained on it."""
    return {**PRESETS[dataset], **(_BACKBONE if model == "backbone" else {})}
