"""Training over several devices and processes against training on one, as whole processes."""

import io
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest
from tiny_runs import rows_of

from keras_patchpu.datasets import ImageBatches
from keras_patchpu.utils import distribution
from patchpu.commands.train import main, parse_train_config
from patchpu.training.run import prepare

ROOT = pathlib.Path(__file__).parents[3]
PROGRAM = ROOT / "tests" / "programs" / "train_without_report.py"
# A small rate, and fast running statistics: what Adam's division makes of rounding errors where a
# gradient is zero is below 1e-5, statistics of a part of the batch would be far above.
OPTIONS = (
    "--num-validation 21 --learning-rate 1e-4 --batch-norm-momentum 0.5 --schedule cosine "
    "--batch-size 8 --image-size 32 --patch-size 16 --num-downsamples 1 --features 8 "
    "--hidden-units 8"
).split()
# For programs that run some steps: compiling costs a third.
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
on_jax = pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX alone can do it")


def started(folder, *options, processes=1, devices=1):
    """The processes of one training, by rank; one process with one device trains as usual."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    flags = f"--xla_force_host_platform_device_count={devices} {QUICK}"
    scores = folder.with_suffix(".scores")
    scores.mkdir(exist_ok=True)
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": path}
    environment |= {"XLA_FLAGS": flags, "SCORES": str(scores)}
    arguments = [*OPTIONS, *options, "--output", str(folder)]
    if processes * devices > 1:
        arguments += ["--distribute"]
    if processes > 1:
        arguments += ["--coordinator", f"127.0.0.1:{port}", "--processes", str(processes)]
    return [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), *arguments, *(["--rank", str(rank)] if rank else [])],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        for rank in range(processes)
    ]


def ended(processes, seconds=600):
    """Codes and outputs of processes, which end in time."""
    try:
        outputs = [process.communicate(timeout=seconds)[0].decode() for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], outputs


def trained(folder, *options, **kwargs):
    codes, outputs = ended(started(folder, *options, **kwargs))
    assert set(codes) == {0}, outputs
    return outputs


def wait_for(process, text):
    """Reads what a process prints until this comes."""
    seen = b""
    while text not in seen:
        more = process.stdout.read1()
        assert more, seen.decode()
        seen += more


def check_same(folder, other):
    for row, of_other in zip(rows_of(folder), rows_of(other), strict=True):
        assert float(of_other["loss"]) == pytest.approx(float(row["loss"]), abs=1e-5)
    weights, of_other = weights_of(folder), weights_of(other)
    assert list(weights) == list(of_other)
    for name, weight in weights.items():
        np.testing.assert_allclose(of_other[name], weight, atol=1e-5, rtol=1e-5, err_msg=name)
    # mAP is the same where scores are; but it may jump where two scores are nearly equal.
    (scores,) = scores_of(folder)
    assert scores.shape == (21, 10)
    for of_other in scores_of(other):
        np.testing.assert_allclose(of_other, scores, atol=1e-5)
    assert len(scores_of(other)) == json.loads(environment_of(other))["processes"]


def weights_of(folder):
    """Arrays of the model and of the optimizer, by their names in the file."""
    arrays = {}
    with zipfile.ZipFile(folder / "last" / "model.keras") as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))

    def add(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()]

    with h5py.File(content) as file:
        file.visititems(add)
    return arrays


def scores_of(folder):
    """Of the validation images after the last epoch, as each process has them."""
    return [np.load(path) for path in sorted(folder.with_suffix(".scores").iterdir())]


def environment_of(folder):
    return (folder / "environment.json").read_text()


@on_jax
def test_two_processes_train_as_one(tmp_path):
    # 7 images over two devices: each batch is filled up.
    few = ("--num-train", "7", "--epochs", "3")
    trained(tmp_path / "one", *few)
    outputs = trained(tmp_path / "two", *few, processes=2)
    check_same(tmp_path / "one", tmp_path / "two")
    assert "final val mAP" in outputs[0] and "Epoch" not in outputs[1]
    environment = json.loads(environment_of(tmp_path / "two"))
    assert (environment["devices"], environment["processes"]) == (2, 2)
    settings = [(tmp_path / name / "config.yaml").read_text() for name in ("one", "two")]
    assert settings[0] == settings[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One process: four batches of 8 and one of 3, three times."""
    folder = tmp_path_factory.mktemp("whole")
    trained(folder / "run", *LONGER)
    return folder / "run"


LONGER = ("--num-train", "35", "--epochs", "3", "--checkpoint-minutes", "0")


@on_jax
@pytest.mark.slow
@pytest.mark.parametrize("processes, devices", [(1, 2), (1, 4), (2, 1), (2, 2), (4, 1)])
def test_devices_and_processes_train_as_one(whole, tmp_path, processes, devices):
    trained(tmp_path / "run", *LONGER, processes=processes, devices=devices)
    check_same(whole, tmp_path / "run")


@on_jax
@pytest.mark.slow
@pytest.mark.parametrize("loss", ["role", "ll_cp"])
def test_losses_with_a_state_of_each_image(tmp_path, loss):
    few = ("--num-train", "15", "--epochs", "2", "--loss", loss)
    trained(tmp_path / "one", *few)
    trained(tmp_path / "two", *few, processes=2)
    check_same(tmp_path / "one", tmp_path / "two")


@on_jax
@pytest.mark.slow
@pytest.mark.parametrize("loss", ["en_scl", "em_apl"])
def test_losses_with_a_memory_over_the_devices_of_one_process(tmp_path, loss):
    few = ("--num-train", "15", "--epochs", "3", "--loss", loss)
    trained(tmp_path / "one", *few)
    trained(tmp_path / "two", *few, devices=2)
    check_same(tmp_path / "one", tmp_path / "two")


@on_jax
@pytest.mark.slow
def test_a_resnet_over_two_devices_is_alike(tmp_path):
    """Its 50 batch norms make 1e-4 of a rounding error; what it remembers of images is theirs."""
    few = ("--num-train", "15", "--epochs", "3", "--loss", "en_scl", "--image-size", "64")
    few += ("--model", "resnet", "--resnet-width", "0.125", "--resnet-output-stride", "8")
    trained(tmp_path / "one", *few)
    trained(tmp_path / "two", *few, devices=2)
    for row, other in zip(rows_of(tmp_path / "one"), rows_of(tmp_path / "two"), strict=True):
        assert float(other["loss"]) == pytest.approx(float(row["loss"]), abs=1e-3)
    # These differ by 0.17 and 0.24 between images (standard deviation).
    averages = [np.load(tmp_path / name / "last" / "averages.npy") for name in ("one", "two")]
    np.testing.assert_allclose(averages[1], averages[0], atol=5e-3)
    np.testing.assert_allclose(
        *(scores_of(tmp_path / name)[0] for name in ("one", "two")), atol=0.03
    )


@on_jax
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_training_of_two_processes_goes_on(whole, tmp_path, number):
    folder = tmp_path / "run"
    processes = started(folder, *LONGER, processes=2)
    wait_for(processes[0], b"Epoch 2/3")
    if number == signal.SIGKILL:
        for process in processes:
            process.kill()
    else:
        processes[1].terminate()  # one of them: both save and end
    codes, outputs = ended(processes)
    if number == signal.SIGTERM:
        assert codes == [128 + signal.SIGTERM] * 2, outputs
        assert "all of it saved" in outputs[0]
    assert len(rows_of(folder)) < 3
    outputs = trained(folder, *LONGER, "--resume", processes=2)
    assert "Epoch 1/3" not in outputs[0]
    check_same(whole, folder)


@on_jax
@pytest.mark.slow
@pytest.mark.parametrize("dies", [0, 1])
def test_a_process_that_dies_ends_the_others(tmp_path, dies):
    processes = started(tmp_path / "run", "--num-train", "35", "--epochs", "9999", processes=2)
    wait_for(processes[0], b"Epoch 2/9999")
    processes[dies].kill()
    codes, outputs = ended(processes, seconds=120)
    assert codes[1 - dies] not in (0, None)
    assert re.search("another has ended|another task died", outputs[1 - dies]), outputs


@on_jax
@pytest.mark.slow
def test_processes_with_different_settings_or_without_a_folder_do_not_begin(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "config.yaml").write_text("seed: 0\n")
    codes, outputs = ended(started(tmp_path / "taken", "--num-train", "7", processes=2))
    assert codes == [2, 2]
    assert "already holds a run" in outputs[0]
    assert "The process of rank 0 cannot begin" in outputs[1]


# === What needs no second process ===


def refused(arguments, capsys):
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert exited.value.code == 2
    return capsys.readouterr().err


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX can do it")
def test_other_backends_are_refused(capsys, tmp_path):
    message = refused(["--distribute", "--output", str(tmp_path / "run")], capsys)
    assert "set KERAS_BACKEND=jax" in message and keras.backend.backend() in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--processes 2 --coordinator a:1", "Expected --distribute with --coordinator"),
        ("--distribute --rank 1", "Expected --rank from 0 to 0"),
        ("--distribute --processes 2", "Expected --coordinator HOST:PORT with --processes"),
        ("--distribute --coordinator a:1", "Expected --coordinator HOST:PORT with --processes"),
        ("--distribute --processes 2 --coordinator a:1 --rank 2", "--rank from 0 to 1"),
        ("--distribute --processes 2 --coordinator a --rank 1", "Received: 'a'"),
    ],
)
def test_options_that_do_not_fit(capsys, arguments, message):
    assert message in refused(arguments.split(), capsys)


@on_jax
def test_a_batch_that_does_not_divide(monkeypatch):
    import jax

    for name in ("device_count", "local_device_count"):
        monkeypatch.setattr(jax, name, lambda: 3)
    with pytest.raises(ValueError, match="divides over 3 devices. Received: 8"):
        distribution.start(8)
    assert keras.distribution.distribution() is None


@pytest.mark.parametrize("loss", ["en", "en_cl", "en_scl", "em_apl"])
def test_losses_that_remember_in_files_are_for_one_process(loss, monkeypatch, tmp_path):
    config = parse_train_config(["--loss", loss, "--output", str(tmp_path / "run")])
    monkeypatch.setattr(distribution, "num_processes", lambda: 2)
    monkeypatch.setattr(distribution, "rank", lambda: 0)
    with pytest.raises(ValueError, match=f"--loss {loss} remembers .* Received: 2 processes"):
        prepare(config)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("processes, devices", [(1, 2), (2, 2), (2, 4), (3, 3)])
def test_shares_are_the_batches(monkeypatch, processes, devices):
    images = np.arange(11, dtype="uint8").reshape(11, 1, 1, 1) * np.ones((1, 2, 2, 3), "uint8")
    whole = ImageBatches(images, np.arange(11)[:, None], batch_size=6, seed=3)
    monkeypatch.setattr(distribution, "num_devices", lambda: devices)
    monkeypatch.setattr(distribution, "num_processes", lambda: processes)
    shares = []
    for rank in range(processes):
        monkeypatch.setattr(distribution, "rank", lambda rank=rank: rank)
        own = distribution.Shares(ImageBatches(images, np.arange(11)[:, None], 6, seed=3))
        shares.append([own[index] for index in range(len(own))])
    for index, (x, y) in enumerate(whole):
        parts = [share[index] for share in shares]
        assert len({len(part[0]) for part in parts}) == 1  # as many in each process
        rows = {
            name: np.concatenate([part[1][name] for part in parts])
            for name in ("labels", "images_in_batch")
        }
        images_of_all = np.concatenate([part[0] for part in parts])
        assert len(images_of_all) % devices == 0
        assert len(images_of_all) - len(x) < devices
        data = distribution.without_filling((images_of_all, rows))
        np.testing.assert_array_equal(data[0], x)
        assert list(data[1]) == ["labels"]
        np.testing.assert_array_equal(data[1]["labels"], y)
    assert own.is_image().sum() == 11


def test_other_data_pass_as_they_are():
    for data in ((1, 2), (1, {"labels": 2}), (1,), [1, 2]):
        assert distribution.without_filling(data) is data
