"""Settings by data set where they differ from the paper's."""

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
