"""Measures `patchpu predict` on many files: images a second, and whether memory stays flat.

    python benchmarks/predict.py --out benchmarks/results/predict.json

Writes JPEG files of 500x375 to 640x640 pixels (half a byte a pixel) into a temporary folder,
500 different ones and links to them, saves an untrained model of the preset for one's own
images (224x224 pixels, patches of 32, 20 labels), and runs the command in a process of its
own for each number of files.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

import keras
from photographs import write_files

from keras_patchpu.models import PatchClassifier

DIFFERENT = 500
COMMAND = """
import sys, time
from patchpu.__main__ import main
start = time.perf_counter()
main(["predict", *sys.argv[1:]])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print("PEAK_KIB", int(status["VmHWM"].split()[0]), "SECONDS", time.perf_counter() - start)
"""


def run(model, folder, count, batch_size):
    """Seconds and peak MiB of the command for `count` files."""
    output = folder / f"tags_{count}.csv"
    arguments = [str(model), str(folder / str(count)), "--output", str(output)]
    process = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments, "--batch-size", str(batch_size)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).resolve().parent.parent)},
    )
    _, peak, _, seconds = process.stdout.splitlines()[-1].split()
    with output.open() as file:
        rows = sum(1 for _ in file) - 1
    if rows != count:
        raise RuntimeError(f"{rows} rows for {count} images")
    return {
        "images": count,
        "seconds": round(float(seconds), 1),
        "images_a_second": round(count / float(seconds), 1),
        "peak_mib": round(int(peak) / 1024),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "files").mkdir()
        files = write_files(folder / "files", DIFFERENT)[0]
        for count in arguments.counts:
            (folder / str(count)).mkdir()
            for index in range(count):
                os.link(files[index % DIFFERENT], folder / str(count) / f"{index:06d}.jpg")
        keras.utils.set_random_seed(0)
        model = PatchClassifier(20, (224, 224), patch_size=32, num_downsamples=2)
        model.save(folder / "model.keras")
        results = []
        for count in arguments.counts:
            results.append(run(folder / "model.keras", folder, count, arguments.batch_size))
            print(results[-1], flush=True)
    text = json.dumps(
        {
            "command": " ".join(["python", "benchmarks/predict.py", *sys.argv[1:]]),
            "backend": keras.backend.backend(),
            "keras": keras.__version__,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "date": time.strftime("%Y-%m-%d"),
            "batch_size": arguments.batch_size,
            "runs": results,
        },
        indent=2,
    )
    if arguments.out:
        pathlib.Path(arguments.out).write_text(text + "\n")


if __name__ == "__main__":
    main()
