"""Runs one fuzz target and adds a line to `results.csv`: how long, how many inputs, what was found.

python fuzz/record.py table 1200
"""

import csv
import importlib.metadata
import pathlib
import platform
import re
import shlex
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
PACKAGES = ("atheris", "pillow", "pyyaml", "jsonargparse")
FIELDS = (
    *("target", "seconds", "executions", "new_inputs", "coverage", "findings", "commit"),
    *("command", "python", *PACKAGES),
)


def git(*arguments):
    process = subprocess.run(
        ["git", "-C", HERE.parent, *arguments], capture_output=True, text=True, check=True
    )
    return process.stdout.strip()


def main():
    target, seconds = sys.argv[1], int(sys.argv[2])
    command = ["python", f"fuzz/fuzz_{target}.py", f"-max_total_time={seconds}"]
    commit = git("rev-parse", "HEAD")
    if git("status", "--porcelain", "--", "keras_patchpu", "patchpu"):
        commit += "-dirty"
    log = pathlib.Path(tempfile.gettempdir(), f"fuzz-{target}.log")
    with log.open("w") as file:
        process = subprocess.run(
            [sys.executable, *command[1:]], cwd=HERE.parent, stdout=file, stderr=file
        )
    text = log.read_text(errors="replace")
    done = re.search(r"Done \d+ runs in (\d+) second", text)
    stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", text))
    executions = int(stats.get("number_of_executed_units", 0))
    speed = int(stats.get("average_exec_per_sec", 0))
    line = {
        "target": target,
        "seconds": done[1] if done else executions // max(speed, 1),
        "executions": executions,
        "new_inputs": stats.get("new_units_added", 0),
        "coverage": (re.findall(r"cov: (\d+)", text) or [0])[-1],
        "findings": int(process.returncode != 0),
        "commit": commit,
        "command": shlex.join(command),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }
    results = HERE / "results.csv"
    new = not results.exists()
    with results.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if new:
            writer.writeheader()
        writer.writerow(line)
    print(line, f"log: {log}", sep="\n")
    if process.returncode:
        print(text[-3000:])
    sys.exit(process.returncode)


if __name__ == "__main__":
    main()
