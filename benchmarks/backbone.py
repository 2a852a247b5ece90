"""Labels from a frozen backbone on VOC photographs: losses, sizes of the training set, places.

    python benchmarks/backbone.py DEVKIT --output results/photographs

Features of each image are computed once; each run then trains what follows with the settings of
the preset. Seed s is that of the initial weights and of the order, and 1200 + s that of the
observed labels. Beside them stand what one would do without this package: scikit-learn's logistic
regression, a label at a time, on the standardised mean of the same features, and a score map of
the same features, whose mean is the log-odds and which is its own Grad-CAM (`mean`).

mAP6 is the mean AP of the six labels with at least 100 training images, mAP12 that of these and of
the six with at least 15 validation positives besides. Writes `runs.csv`, a line a run, and
`table.md`. Finished lines are kept: give the same command again to go on.
"""

import argparse
import csv
import pathlib
import subprocess
import tempfile
import time

import keras
import numpy as np
from keras import ops
from sklearn.linear_model import LogisticRegression

from keras_patchpu.datasets import load_voc, observe_uniform
from keras_patchpu.datasets.image_batches import ArrayBatches
from keras_patchpu.metrics import average_precision, localization
from keras_patchpu.metrics.heat_maps import AttentionHeat, ScoreMapHeat
from keras_patchpu.metrics.model_heat import score_map_heat, sharpened_attention
from keras_patchpu.models import MultiLabelClassifier
from patchpu.training.build import make_loss, make_model, make_optimizer
from patchpu.training.config import TrainConfig
from patchpu.training.data import RunData, passes
from patchpu.training.features import with_features
from patchpu.training.presets import preset
from patchpu.training.run_folder import RunFolder

FREQUENT = ("cat", "cow", "dog", "horse", "person", "sheep")
RARER = ("bottle", "car", "chair", "pottedplant", "sofa", "tvmonitor")
SEEDS = (0, 1, 2)
SIZES = (100, 300, 1000)
LOSSES = ("wn", "an", "bce")
COLUMNS = (
    "method",
    "loss",
    "training images",
    "seed",
    "mAP6",
    "mAP12",
    "peak in box",
    "inside boxes",
    "sharpened peak in box",
    "sharpened inside boxes",
    "seconds",
    "commit",
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("devkit", help="Folder VOCdevkit with the pictures.")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("results/photographs"))
    parser.add_argument("--image-size", type=int, default=preset("voc", "backbone")["image_size"])
    parser.add_argument("--losses", nargs="+", default=LOSSES)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "runs.csv"
    rows = read(path)
    done = {(row["method"], row["loss"], row["training images"], row["seed"]) for row in rows}
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40"], capture_output=True, text=True
    ).stdout.strip()

    data = Photographs(arguments.devkit, arguments.image_size)
    for method, loss, count, seed in wanted(arguments.losses, data.num_images):
        if (method, loss, str(count), str(seed)) in done:
            continue
        started = time.perf_counter()
        scores = {"logistic": data.logistic, "mean": data.mean, "backbone": data.backbone}[method](
            loss, count, seed
        )
        row = {"method": method, "loss": loss, "training images": count, "seed": seed, **scores}
        row |= {"seconds": row.get("seconds", time.perf_counter() - started), "commit": commit}
        row = {name: f"{v:.4f}" if isinstance(v, float) else v for name, v in row.items()}
        rows.append(row)
        print(row, flush=True)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="")
            writer.writeheader()
            writer.writerows(rows)
    (arguments.output / "table.md").write_text(table(read(path)))


def wanted(losses, num_images):
    """Method, loss, number of training images and seed of each run."""
    for seed in SEEDS:
        for loss in losses:
            yield "backbone", loss, num_images, seed
        for loss in ("an", "bce"):
            yield "logistic", loss, num_images, seed
        yield "mean", "an", num_images, seed
        for count in SIZES:
            for loss in losses[:2]:
                yield "backbone", loss, count, seed
            yield "logistic", "an", count, seed


class Photographs:
    """Features, labels and boxes of the training and validation images."""

    def __init__(self, devkit, image_size):
        self.settings = {"dataset": "voc", "model": "backbone", **preset("voc", "backbone")}
        self.settings |= {"image_size": image_size, "check_counts": False, "data_dir": devkit}
        self.train, self.validation = (
            load_voc(split, devkit, check_counts=False) for split in ("train", "validation")
        )
        self.num_images = len(self.train)
        self.true = (self.train.labels > 0).astype("int8")
        self.names = self.train.label_names
        config = self.config("an", 0)
        self.model = make_model(config, len(self.names))
        with tempfile.TemporaryDirectory() as folder:
            data = RunData(self.train, self.validation, self.true, None)
            seen = with_features(config, self.model, data, RunFolder(folder))
        self.features, self.seen = seen.training_features[:, 0], seen.validation_features

    def config(self, loss, seed):
        return TrainConfig(**{**self.settings, "loss": loss, "seed": seed})

    def observed(self, loss, count, seed):
        """Numbers of the training images, and what is known of them."""
        labels = np.where(self.true, 1, -1) if loss == "bce" else None
        labels = observe_uniform(self.true, seed=1200 + seed) if labels is None else labels
        chosen = np.random.default_rng(seed).permutation(self.num_images)[:count]
        return chosen, labels[chosen].astype("int8")

    def scored(self, scores):
        values = dict(zip(self.names, average_precision(self.validation.labels, scores)))
        return {
            "mAP6": float(np.mean([values[name] for name in FREQUENT])),
            "mAP12": float(np.mean([values[name] for name in FREQUENT + RARER])),
        }

    def placed(self, heat):
        """Peak in a box of the label, and share inside, of the present labels."""
        validation = self.validation
        where = (validation.labels, validation.boxes, validation.box_labels, self.names)
        found = localization(heat, *where)
        return found["peak_in_box"], found["attention_in_box"]

    def backbone(self, loss, count, seed):
        keras.utils.set_random_seed(seed)
        config = self.config(loss, seed)
        chosen, labels = self.observed(loss, count, seed)
        self.model = make_model(config, len(self.names))
        head = self.model.on_features()
        made = make_loss(config, float(self.true.sum(1).mean()), count, len(self.names))
        seconds = self.fit(head, config, made, chosen, labels)
        scores = head.predict(self.seen, batch_size=128, verbose=0)
        attention = head.part("attention").predict(self.seen, batch_size=128, verbose=0)
        sharp = sharpened_attention(head, self.seen)
        boxes, size = self.model.patch_boxes, self.model.image_size
        peak, inside = self.placed(AttentionHeat(attention["attention"], boxes, size))
        places = {"peak in box": peak, "inside boxes": inside}
        peak, inside = self.placed(AttentionHeat(sharp, boxes, size))
        places |= {"sharpened peak in box": peak, "sharpened inside boxes": inside}
        return {**self.scored(scores), **places, "seconds": seconds}

    def mean(self, loss, count, seed):
        """A linear score of each place, and the mean of the scores for the log-odds."""
        keras.utils.set_random_seed(seed)
        config = self.config(loss, seed)
        chosen, labels = self.observed(loss, count, seed)
        inputs = x = keras.Input(self.features.shape[1:])
        x = keras.layers.SpatialDropout1D(config.feature_dropout)(x)
        x = keras.layers.BatchNormalization(momentum=config.batch_norm_momentum)(x)
        dense = keras.layers.Dense(len(self.names))
        maps = dense(x)
        logits = ops.mean(maps, axis=1)
        outputs = {"maps": maps, "logits": logits, "probabilities": ops.sigmoid(logits)}
        model = MultiLabelClassifier(inputs, outputs)
        made = make_loss(config, float(self.true.sum(1).mean()), count, len(self.names))
        seconds = self.fit(model, config, made, chosen, labels)
        scores = model.predict(self.seen, batch_size=128, verbose=0)
        maps = model.part("maps").predict(self.seen, batch_size=128, verbose=0)["maps"]
        side = round(maps.shape[1] ** 0.5)
        bias = keras.ops.convert_to_numpy(dense.bias)
        maps = score_map_heat(maps.reshape(-1, side, side, len(self.names)), bias)
        peak, inside = self.placed(ScoreMapHeat(maps, (112, 112)))
        places = {"peak in box": peak, "inside boxes": inside}
        return {**self.scored(scores), **places, "seconds": seconds}

    def fit(self, model, config, loss, chosen, labels):
        """Trains on the features of some images; seconds."""
        batches = ArrayBatches(
            self.features[chosen],
            labels,
            config.batch_size,
            config.seed,
            passes=passes(config, len(labels)),
        )
        model.compile(make_optimizer(config, len(batches)), loss)
        started = time.perf_counter()
        model.fit(batches, epochs=config.epochs, shuffle=False, verbose=0)
        return time.perf_counter() - started

    def logistic(self, loss, count, seed):
        chosen, labels = self.observed(loss, count, seed)
        train, seen = (values.astype("float32").mean(1) for values in (self.features, self.seen))
        train = train[chosen]
        mean, deviation = train.mean(0), train.std(0) + 1e-6
        scores = np.zeros((len(seen), len(self.names)))
        for label in np.flatnonzero((labels > 0).any(0)):
            fitted = LogisticRegression(C=0.01, max_iter=1000)
            fitted.fit((train - mean) / deviation, labels[:, label] > 0)
            scores[:, label] = fitted.predict_proba((seen - mean) / deviation)[:, 1]
        return self.scored(scores)


def read(path):
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def table(rows):
    """Mean and standard deviation over seeds, in percent."""
    numbers = [name for name in COLUMNS if name[0] in "mpis" and name not in ("method", "seed")]
    numbers.remove("seconds")
    lines = ["| method | loss | training images | " + " | ".join(numbers) + " |"]
    lines.append("|" + "---|" * (3 + len(numbers)))
    kinds = dict.fromkeys((r["method"], r["loss"], r["training images"]) for r in rows)
    for kind in sorted(kinds, key=lambda kind: (-int(kind[2]), kind[0], kind[1])):
        own = [r for r in rows if (r["method"], r["loss"], r["training images"]) == kind]
        cells = []
        for name in numbers:
            values = [100 * float(r[name]) for r in own if r[name]]
            cells.append(f"{np.mean(values):.1f} ± {np.std(values):.1f}" if values else "")
        lines.append(f"| {' | '.join([*kind, *cells])} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
