"""Measures where heat of trained runs on the digits lies, by how it is made of their patches.

    python benchmarks/localization_trials.py RUN_FOLDER ... [--steps 16 8] [--scenes-seed 100]
        [--scenes 1000] [--out FILE]

For each run, step between patches, weight of a patch for a label and way to combine the levels:
`localization` and `box_average_precision` of validation scenes, which are made with
`--scenes-seed`. Seed 0 is what runs are scored on, so choose on another. `next image` is a
control: each image under the heat of the next. Lines of CSV are appended.
"""

import argparse
import csv
import json
import pathlib
import shlex
import sys

FIELDS = ("run", "loss", "seed", "trained_with_step", "epochs", "val_mAP", "scenes_seed", "scenes")
FIELDS += ("step", "patches", "weight", "levels", "peak_in_box", "in_box", "box_area")
FIELDS += ("box_ap_30", "box_ap_50", "trained_at_commit", "trained_by", "measured_by")
BATCH = 100


def weights_of(attention, logits):
    """The weights of patches that are tried, by name: all `(N, L, P)`, not negative."""
    import numpy as np

    probability = 1 / (1 + np.exp(-np.maximum(logits, -80.0)))
    return {
        "attention": attention,
        "attention ** 4": attention**4,
        "relu(log-odds)": np.maximum(logits, 0),
        "probability": probability,
        "attention * probability": attention * probability,
        "attention * probability, next image": np.roll(attention * probability, 1, axis=0),
    }


def measure(model, step, scenes):
    """Yields a dict for each weight and way to combine."""
    import numpy as np

    from keras_patchpu.metrics import AttentionHeat, box_average_precision, localization

    finer = model.with_strides(step)
    outputs = [
        finer.explain(scenes.images[start : start + BATCH], ("attention", "patch_logits"))
        for start in range(0, len(scenes.images), BATCH)
    ]
    attention, logits = (
        np.concatenate([found[name] for found in outputs]) for name in ("attention", "patch_logits")
    )
    scores = model.predict(scenes.images, batch_size=BATCH, verbose=0)
    for weight, values in weights_of(attention, logits).items():
        for combine in ("sum", "product"):
            heat = AttentionHeat(values, finer.patch_boxes, model.image_size, combine=combine)
            places = localization(heat, scenes.labels, scenes.boxes)
            ap = box_average_precision(heat, scores, scenes.labels, scenes.boxes)["mean"][0]
            yield {
                "step": step,
                "patches": len(finer.patch_boxes),
                "weight": weight,
                "levels": combine,
                "peak_in_box": round(places["peak_in_box"], 4),
                "in_box": round(places["attention_in_box"], 4),
                "box_area": round(places["box_area"], 4),
                "box_ap_30": round(float(ap[0]), 4),
                "box_ap_50": round(float(ap[1]), 4),
            }


def about(folder, model):
    """What a line says of the run."""
    import yaml

    settings = yaml.safe_load((folder / "config.yaml").read_text())
    environment = json.loads((folder / "environment.json").read_text())
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        "run": folder.name,
        "loss": settings["loss"],
        "seed": settings["seed"],
        "trained_with_step": model.patch_extractor.strides or model.patch_extractor.patch_size,
        "epochs": len(rows),
        "val_mAP": round(float(rows[-1]["val_mAP"]), 4),
        "trained_at_commit": environment["commit"],
        "trained_by": environment["command"],
    }, settings


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=pathlib.Path, metavar="RUN_FOLDER")
    parser.add_argument("--steps", nargs="+", type=int, default=[16, 8])
    parser.add_argument("--scenes-seed", type=int, default=100)
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--out", type=pathlib.Path, default="localisation_trials.csv")
    options = parser.parse_args(arguments)
    import keras

    import keras_patchpu  # noqa: F401  (what a file of a model is made of)
    from keras_patchpu.datasets import load_digit_scenes

    command = shlex.join(["benchmarks/localization_trials.py", *(arguments or sys.argv[1:])])
    for folder in options.folders:
        model = keras.saving.load_model(folder / "last" / "model.keras", compile=False)
        line, settings = about(folder, model)
        scenes = load_digit_scenes(
            options.scenes,
            "validation",
            settings["image_size"],
            settings.get("max_digits", 3),
            difficulty=settings["difficulty"],
            seed=options.scenes_seed,
        )
        line |= {"scenes_seed": options.scenes_seed, "scenes": options.scenes}
        line |= {"measured_by": command}
        for step in options.steps:
            rows = [{**line, **found} for found in measure(model, step, scenes)]
            is_new = not options.out.exists()
            with options.out.open("a", newline="") as file:
                writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
                if is_new:
                    writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main()
