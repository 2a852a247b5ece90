"""Tags against plain `read_image` and `predict`, places by hand, and the command."""

import csv
import gc
import hashlib
import io
import json
import os
import pathlib
import shutil
import tracemalloc

import keras
import numpy as np
import pytest
from backend import FEW_STEPS
from PIL import Image
from small import calibrated_classifier

from keras_patchpu import PatchClassifier
from keras_patchpu import predict_command as module
from keras_patchpu.datasets.read_image import ImageError, read_image
from keras_patchpu.metrics import attention_heatmap
from keras_patchpu.tagging import Tagger, Tags
from patchpu.commands.predict import list_images, predict
from patchpu.prediction.shards import Shard, merge

NAMES = ["cat", "dog", "owl"]


@pytest.fixture(autouse=True)
def few_steps(monkeypatch, request):
    """Models predict step by step, but where a test is marked: compiling takes seconds."""
    fused = PatchClassifier.fused

    def eager(self):
        model = fused(self)
        model.run_eagerly = FEW_STEPS["run_eagerly"]
        return model

    if "compiled" not in request.fixturenames:
        monkeypatch.setattr(PatchClassifier, "fused", eager)


@pytest.fixture
def compiled():
    """Marks a test that sees what a user sees."""


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return calibrated_classifier(label_names=NAMES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model):
    """Seven images of several sizes and formats, one of them broken, and the model."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for index, shape in enumerate([(32, 32), (48, 20), (20, 64), (90, 70), (33, 31), (32, 40)]):
        pixels = random.integers(0, 256, (*shape, 3)).astype("uint8")
        Image.fromarray(pixels).save(folder / f"{index}.{'jpg' if index % 2 else 'png'}")
    (folder / "3b.JPG").write_bytes((folder / "1.jpg").read_bytes()[:100])
    model.save(folder / "last.keras")
    return folder


@pytest.fixture(scope="module")
def paths(folder):
    return [str(folder / name) for name in ("0.png 1.jpg 2.png 3.jpg 3b.JPG 4.png 5.jpg".split())]


def set_on(model, **values):
    """A copy of a model with other thresholds or another fit."""
    copy = type(model).from_config({**model.get_config(), **values})
    copy.set_weights(model.get_weights())
    return copy


def scores_of(model, paths):
    images = [read_image(path, model.image_size, model.image_fit) for path in paths]
    return model.predict(np.stack(images), verbose=0)


# === Tagger ===


@pytest.mark.parametrize("fit, attention", [("stretch", True), ("pad", False)])
def test_scores_and_order(compiled, model, paths, fit, attention):
    model = set_on(model, image_fit=fit)
    found = list(Tagger(model, batch_size=3, workers=2, attention=attention)(iter(paths)))
    assert [tags.name for tags in found] == paths
    broken = found.pop(4)
    assert broken.scores is None and broken.tags == () and broken.size is None
    assert broken.error.startswith(f"{paths[4]}: damaged or unreadable")
    scores = scores_of(model, paths[:4] + paths[5:])
    np.testing.assert_allclose([tags.scores for tags in found], scores, atol=1e-4)
    for tags, row in zip(found, scores):
        assert tags.error is None and tags.scores.dtype == "float32"
        assert tags.tags == tuple(NAMES[label] for label in np.argsort(-row))
        assert (tags.heatmaps is not None) == (tags.regions is not None) == attention
    assert [tags.size for tags in found] == [
        (32, 32),
        (48, 20),
        (20, 64),
        (90, 70),
        (33, 31),
        (32, 40),
    ]


def test_paths_bytes_and_arrays(model, paths):
    array = read_image(paths[3])
    found = list(
        Tagger(model, batch_size=2)([pathlib.Path(paths[3]), open(paths[3], "rb").read(), array])
    )
    assert [tags.name for tags in found] == [paths[3], "image 1", "image 2"]
    for tags in found:
        np.testing.assert_allclose(tags.scores, found[0].scores, atol=1e-6)


def test_size_is_that_of_the_upright_image(model):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    file = io.BytesIO()
    Image.new("RGB", (40, 30)).save(file, "JPEG", exif=exif)
    (found,) = Tagger(model)([file.getvalue()])
    assert found.size == (40, 30)


def test_top_k(model, paths):
    ((ranked,), (two,), (many,)) = (
        [tags.tags for tags in Tagger(model, top_k=top_k)(paths[:1])] for top_k in (None, 2, 9)
    )
    assert len(ranked) == 3 and two == ranked[:2] and many == ranked


def test_thresholds(model, paths):
    scores = scores_of(model, paths[:4])
    thresholds = np.sort(scores, axis=0)[2] - 1e-3  # of each label two images are at or above
    with_thresholds = set_on(model, thresholds=thresholds.tolist(), label_names=None)
    for top_k in (None, 1):
        found = Tagger(with_thresholds, top_k)(paths[:4])
        for tags, row in zip(found, scores, strict=True):
            above = [label for label in np.argsort(-row) if row[label] >= thresholds[label]]
            assert tags.tags == tuple(map(str, above[:top_k]))


def test_a_threshold_that_is_met_exactly_counts(model, paths):
    scores = next(Tagger(model)(paths[:1])).scores
    for nudge, expected in [(0, set(NAMES)), (1, set())]:
        thresholds = scores.astype("float64") + nudge * 1e-12
        (found,) = Tagger(set_on(model, thresholds=thresholds.tolist()))(paths[:1])
        assert set(found.tags) == expected


def test_reads_no_more_than_three_batches_ahead(model):
    taken = []

    def images():
        for index in range(50):
            taken.append(index)
            yield np.zeros((32, 32, 3), "uint8")

    found = Tagger(model, batch_size=2)(images())
    most = 0
    for index, _ in enumerate(found):
        most = max(most, len(taken) - index)
        if index == 20:
            break
    found.close()
    assert most <= 6 and len(taken) <= 26


def test_one_shape_for_every_batch(model, paths, monkeypatch):
    tagger, shapes = Tagger(model, batch_size=4), []
    predict_on_batch = tagger._model.predict_on_batch
    monkeypatch.setattr(
        tagger._model,
        "predict_on_batch",
        lambda images: shapes.append(images.shape) or predict_on_batch(images),
    )
    list(tagger(paths))
    list(tagger(paths[4:5]))  # a batch of broken images is not predicted
    assert shapes == [(4, 32, 32, 3)] * 2


@pytest.mark.parametrize(
    "image, message",
    [
        (np.zeros((4, 4, 3)), r"image 1 to be a uint8 array.*float64, shape \(4, 4, 3\)"),
        (np.zeros((4, 4), "uint8"), r"uint8, shape \(4, 4\)"),
        (7, "image 1 to be a path, bytes or an array.*int"),
    ],
)
def test_refuses_what_is_no_image(model, image, message):
    with pytest.raises(ValueError, match=message) as raised:
        list(Tagger(model)([np.zeros((4, 4, 3), "uint8"), image]))
    assert not isinstance(raised.value, ImageError)


def test_nan_is_not_taken_for_an_absent_label(model, paths):
    broken = set_on(model)
    broken.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    with pytest.raises(ValueError, match="0.png: the model predicts NaN"):
        list(Tagger(broken)(paths))


@pytest.mark.parametrize("argument", ["top_k", "batch_size", "max_pixels", "workers"])
def test_refuses_bad_arguments(model, argument):
    with pytest.raises(ValueError, match=f"`{argument}` to be a positive integer"):
        Tagger(model, **{argument: 0})


def test_refuses_what_is_no_model(tmp_path, folder):
    keras.Sequential([keras.Input((2,))]).save(tmp_path / "other.keras")
    (tmp_path / "broken.keras").write_bytes(b"PK")
    for path, message in [
        ("none.keras", "There is no model .*none.keras"),
        ("other.keras", "other.keras to hold a PatchClassifier. Received: Sequential"),
        ("broken.keras", "broken.keras is cut off or damaged: 2 bytes"),
        ("", "holds no last.keras"),
    ]:
        with pytest.raises(ValueError, match=message):
            Tagger(tmp_path / path)
    with pytest.raises(ValueError, match="PatchClassifier or the path.*int"):
        Tagger(7)
    assert Tagger(folder).label_names == tuple(NAMES)


# === Places ===


def places(model, attention, size, fit="stretch", **kwargs):
    """Region and heat map of label 0, with an attention of its own."""
    tagger = Tagger(set_on(model, image_fit=fit, **kwargs), attention=True)
    found = tagger._places([0], np.array([attention], "float32"), size)
    return found["regions"].get("cat"), found["heatmaps"]["cat"]


def test_attention_on_one_patch(model):
    # 4 patches of 16 pixels, then one over all 32 x 32; the image has 64 x 320.
    region, heat = places(model, [0, 0, 1, 0, 0], (64, 320))
    assert region == (32, 0, 64, 160)
    np.testing.assert_array_equal(heat, np.repeat(np.repeat([[0, 0], [1, 0]], 16, 0), 16, 1))
    assert places(model, [0, 0, 0, 0, 1], (64, 320))[0] == (0, 0, 64, 320)


@pytest.mark.parametrize(
    "attention, region",
    [
        # Half of the peak belongs to it, less does not.
        ([0.5, 0.25, 0.2, 0.05, 0], (0, 0, 16, 32)),
        # Corners do not connect.
        ([0.5, 0, 0, 0.5, 0], (0, 0, 16, 16)),
        ([0.4, 0, 0, 0.6, 0], (16, 16, 32, 32)),
        ([0.3, 0.3, 0, 0.4, 0], (0, 0, 32, 32)),
        # Level 1 adds to all four: 0.3 and 0.6.
        ([0, 0, 0, 0.3, 0.3], (0, 0, 32, 32)),
    ],
)
def test_regions(model, attention, region):
    assert places(model, attention, (32, 32))[0] == region


def test_pad_is_cut_off(model):
    # 20 x 40 pixels become 16 x 32, with 8 black rows above and below.
    region, heat = places(model, [0, 1, 0, 0, 0], (20, 40), "pad")
    assert region == (0, 20, 10, 40)
    np.testing.assert_array_equal(heat, np.repeat(np.repeat([[0, 1], [0, 0]], 8, 0), 16, 1))
    # 40 x 20: 8 black columns left and right.
    assert places(model, [0, 0, 0, 1, 0], (40, 20), "pad")[0] == (20, 10, 40, 20)
    # 8 x 64 pixels become 4 x 32 in the rows 14 to 18.
    assert places(model, [0, 0, 1, 0, 0], (8, 64), "pad")[0] == (4, 0, 8, 32)


def test_attention_on_the_black_of_pad_only(model):
    # Patches of 8 pixels in 4 rows; the image lies in the rows 12 to 20.
    attention = np.eye(16)[0]
    found = Tagger(
        calibrated_classifier(patch_size=8, num_downsamples=0, image_fit="pad"), attention=True
    )._places([0, 1], np.stack([attention, attention]).astype("float32"), (8, 32))
    assert found["regions"] == {}
    assert set(found["heatmaps"]) == {"0", "1"} and not found["heatmaps"]["0"].any()
    assert found["heatmaps"]["0"].shape == (8, 32)


@pytest.mark.parametrize(
    "kwargs", [{}, {"image_size": (50, 70)}, {"image_size": (50, 70), "strides": 9}]
)
def test_heatmaps_are_those_of_attention_heatmap(kwargs, paths):
    model = calibrated_classifier(**({"num_downsamples": 2} | kwargs))
    images = np.stack([read_image(path, model.image_size) for path in paths[:2]])
    attention = model.explain(images)["attention"]
    expected = attention_heatmap(attention, model.patch_boxes, model.image_size, fill="same")
    for found, heatmaps in zip(Tagger(model, attention=True)(paths[:2]), expected):
        for tag, heat in found.heatmaps.items():
            np.testing.assert_allclose(heat, heatmaps[int(tag)], atol=1e-4)


# === The images of the command ===


def test_list_images(folder, paths, tmp_path, monkeypatch):
    assert list_images([str(folder)]) == paths
    assert list_images([str(folder / "*.png"), paths[1], paths[0]]) == [
        paths[0],
        paths[2],
        paths[5],
        paths[1],
    ]
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("b/c/2.gif", "b/1.WEBP", "b/notes.txt", "a.bmp"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert list_images([".", "a.bmp"]) == ["./a.bmp", "./b/1.WEBP", "./b/c/2.gif"]
    assert list_images(["**/*.gif"]) == ["b/c/2.gif"]
    # The pictures of a run before this one are no images of this one.
    assert list_images(["."], overlays="b/c") == ["./a.bmp", "./b/1.WEBP"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_list_images_of_a_table(tmp_path, kind):
    if kind == "csv":
        text = '\ufeffid,image\n1,a.jpg\n2,"x/b, c.jpg"\n3,a.jpg\n'
        (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    else:
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(
            pyarrow.table({"image": ["a.jpg", "x/b, c.jpg", "a.jpg"]}), tmp_path / "t.parquet"
        )
    assert list_images([str(tmp_path / f"t.{kind}")]) == [
        str(tmp_path / "a.jpg"),
        str(tmp_path / "x/b, c.jpg"),
    ]


def test_list_images_refuses(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.csv").write_text("picture\na.jpg\n")
    (tmp_path / "gap.csv").write_text("image,x\na.jpg,1\n,2\n")
    (tmp_path / "out.csv").write_text("image\n../a.jpg\n")
    for name, message in [
        ("empty", "Received: .*empty"),
        ("none.jpg", "Received: .*none.jpg"),
        ("*.jpg", r"Received: .*\*.jpg"),
        ("no.csv", "column `image`. Received the header: picture"),
        ("gap.csv", "row 3: expected the path of an image in `image`. It is missing"),
        ("out.csv", "row 2: expected a path inside the folder of the table. Received: ../a.jpg"),
    ]:
        with pytest.raises(ValueError, match=message):
            list_images([str(tmp_path / name)])
    found = list_images([str(tmp_path / "out.csv")], allow_outside=True)
    assert found == [str(tmp_path / "../a.jpg")]


# === The command ===


def run(*arguments):
    """Exit code of the command."""
    try:
        predict([str(argument) for argument in arguments])
    except SystemExit as stopped:
        return stopped.code
    return 0


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_csv(model, folder, paths, tmp_path, capsys):
    output = tmp_path / "tags.csv"
    assert run(folder, folder, "--output", output, "--boxes", "--top-k", 2, "--batch-size", 3) == 1
    errors = capsys.readouterr().err
    assert "1 images could not be read:\n" in errors and "3b.JPG: damaged" in errors
    rows = rows_of(output)
    assert list(rows[0]) == [
        "image",
        "tags",
        "error",
        "boxes",
        "score:cat",
        "score:dog",
        "score:owl",
    ]
    assert [row["image"] for row in rows] == paths
    broken = rows.pop(4)
    assert set(broken.values()) == {paths[4], "", broken["error"]} and "damaged" in broken["error"]
    found = Tagger(model, top_k=2, attention=True)(paths[:4] + paths[5:])
    for row, tags, scores in zip(rows, found, scores_of(model, paths[:4] + paths[5:]), strict=True):
        assert row["error"] == "" and row["tags"].split(";") == list(tags.tags)
        written = [row[f"score:{name}"] for name in NAMES]
        assert all(len(score.split(".")[1]) == 6 for score in written)
        np.testing.assert_allclose(np.array(written, float), scores, atol=1e-4)
        assert json.loads(row["boxes"]) == {
            tag: [x_min, y_min, x_max, y_max]
            for tag, (y_min, x_min, y_max, x_max) in tags.regions.items()
        }
    assert sorted(os.listdir(tmp_path)) == ["tags.csv"]


def test_jsonl(folder, paths, tmp_path):
    output = tmp_path / "tags.jsonl"
    assert run(folder, *paths[:5], "--output", output) == 1
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["image"] for row in rows] == paths[:5]
    assert list(rows[0]) == ["image", "tags", "error", "scores"]
    assert rows[0]["error"] is None and set(rows[0]["tags"]) == set(NAMES)
    assert list(rows[0]["scores"]) == NAMES
    assert rows[4]["scores"] is None and rows[4]["tags"] == [] and "damaged" in rows[4]["error"]
    assert run(folder, paths[0], "--output", tmp_path / "b.jsonl", "--no-scores", "--boxes") == 0
    (row,) = map(json.loads, (tmp_path / "b.jsonl").read_text().splitlines())
    assert list(row) == ["image", "tags", "error", "boxes"] and set(row["boxes"]) == set(NAMES)


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    "suffix, cut", [("csv", 0), ("csv", 40), ("csv", None), ("jsonl", 0), ("jsonl", 7)]
)
def test_a_killed_run_goes_on(folder, paths, tmp_path, monkeypatch, capsys, suffix, cut):
    whole, output = tmp_path / f"whole.{suffix}", tmp_path / f"tags.{suffix}"
    run(folder, *paths, "--output", whole, "--batch-size", 2)
    call, asked = Tagger.__call__, []

    def killed_after_five(self, images):
        for index, tags in enumerate(call(self, images)):
            if index == 5:
                raise Killed
            yield tags

    monkeypatch.setattr(Tagger, "__call__", killed_after_five)
    with pytest.raises(Killed):
        run(folder, *paths, "--output", output, "--batch-size", 2)
    part = tmp_path / f"tags.{suffix}.part"
    assert part.exists() and not output.exists()
    content = part.read_bytes()
    part.write_bytes(content[: len(content) - cut] if cut is not None else content[:5])

    def recorded(self, images):
        asked.extend(images)
        return call(self, list(asked))

    monkeypatch.setattr(Tagger, "__call__", recorded)
    assert run(folder, *paths, "--output", output, "--batch-size", 2) == 1
    assert asked == paths[{0: 5, 7: 4, 40: 4, None: 0}[cut] :]
    # The error is told, whether it was met now or before.
    assert "1 images could not be read:" in capsys.readouterr().err
    assert output.read_bytes() == whole.read_bytes()
    assert sorted(os.listdir(tmp_path)) == sorted([whole.name, output.name])


def test_a_cut_inside_a_quoted_name_with_a_line_break(folder, tmp_path):
    images = []
    for index in range(2):
        images.append(tmp_path / f'a "b",\n{index}.png')
        Image.new("RGB", (32, 32)).save(images[-1])
    output, part = tmp_path / "tags.csv", tmp_path / "tags.csv.part"
    assert run(folder, *images, "--output", output) == 0
    content = output.read_bytes()
    start = content.index(b"\n", content.rindex(b'"b"')) + 1  # after the line break in the name
    settings = {"top_k": None, "boxes": False, "scores": True, "overlays": None, "max_pixels": None}
    model = hashlib.sha256((folder / "last.keras").read_bytes()).hexdigest()
    part.with_name("tags.csv.part.json").write_text(json.dumps({"model": model, **settings}))
    part.write_bytes(content[:start])
    assert run(folder, *images, "--output", output, "--overwrite") == 0
    assert output.read_bytes() == content
    assert [row["image"] for row in rows_of(output)] == list(map(str, images))


@pytest.mark.parametrize("change", ["images", "settings", "longer"])
def test_a_part_of_another_run_is_refused(folder, paths, tmp_path, capsys, monkeypatch, change):
    output, part = tmp_path / "tags.csv", tmp_path / "tags.csv.part"
    monkeypatch.setattr(module.os, "replace", lambda *_: 1 / 0)  # killed before the last step
    with pytest.raises(ZeroDivisionError):
        run(folder, *paths[:2], "--output", output)
    content = part.read_bytes()
    if change == "images":
        assert run(folder, paths[0], paths[3], "--output", output) == 2
        assert f"it has '{paths[1]}' as number 2. Delete it" in capsys.readouterr().err
    elif change == "longer":
        assert run(folder, paths[0], "--output", output) == 2
        assert "over other images" in capsys.readouterr().err
    else:
        assert run(folder, *paths[:2], "--output", output, "--top-k", 1) == 2
        assert "with other settings (top_k). Delete it" in capsys.readouterr().err
    assert part.read_bytes() == content


def test_the_output_is_not_replaced_unasked(folder, paths, tmp_path, capsys):
    output = tmp_path / "tags.csv"
    output.write_text("mine")
    assert run(folder, paths[0], "--output", output) == 2
    assert "--overwrite" in capsys.readouterr().err and output.read_text() == "mine"
    assert run(folder, paths[0], "--output", output, "--overwrite") == 0
    assert len(rows_of(output)) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{model}", "{image}", "--output", "{new}/tags.txt"], "end with .csv or .jsonl"),
        (["{model}", "{image}", "--output", "{new}/none/tags.csv"], "There is no folder"),
        (["{model}", "{new}", "--output", "{new}/tags.csv"], "Expected an image, a folder"),
        (["{new}", "{image}", "--output", "{new}/tags.csv"], "holds no last.keras"),
        (["{model}", "{image}", "--output", "{new}/a.csv", "--top-k", "0"], "`top_k`"),
    ],
)
def test_what_a_user_can_mend(folder, paths, tmp_path, capsys, arguments, message):
    values = {"model": folder, "image": paths[0], "new": tmp_path}
    assert run(*(argument.format(**values) for argument in arguments)) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("patchpu predict: error: ") and message in errors
    assert os.listdir(tmp_path) == []


def test_semicolons_need_jsonl(model, paths, tmp_path, capsys):
    set_on(model, label_names=["a;b", "c", "d"]).save(tmp_path / "m.keras")
    assert run(tmp_path / "m.keras", paths[0], "--output", tmp_path / "tags.csv") == 2
    assert "ends with .jsonl" in capsys.readouterr().err
    assert run(tmp_path / "m.keras", paths[0], "--output", tmp_path / "tags.jsonl") == 0


def test_overlays(folder, paths, tmp_path):
    overlays = tmp_path / "pictures"
    options = ["--output", tmp_path / "tags.csv", "--overlays", overlays]
    assert run(folder, *paths[3:6], *options) == 1  # the second is broken
    names = [path.strip("/").replace("/", "_")[-60:].strip("._") for path in paths]
    pictures = sorted(os.listdir(overlays))
    assert len(pictures) == 2 and all(name.endswith(".png") for name in pictures)
    assert {names[3][-20:], names[5][-20:]} == {name[:-4][-20:] for name in pictures}
    for name in pictures:
        with Image.open(overlays / name) as picture:
            assert picture.format == "PNG" and min(picture.size) > 150


def test_picture_names_differ():
    names = ["a/b.jpg", "a_b.jpg", "A/B.jpg", "a/b.jpg-2", "../é.png", "x" * 300, "y" + "x" * 300]
    pictures = module._picture_names(names)
    assert pictures[0] == "a_b.jpg.png" and pictures[4] == "é.png.png"
    assert len({name.lower() for name in pictures}) == len(names)
    assert all(len(name.encode()) < 255 and "/" not in name for name in pictures)


# === Shards ===

PAIRS = ("--batch-size", "2")  # batches of two images


def shards_of(folder, images, directory, suffix, of, *options):
    """Outputs of all shards."""
    outputs = [directory / f"{number}.{suffix}" for number in range(1, of + 1)]
    for number, output in enumerate(outputs, start=1):
        shard = ("--shard", f"{number}/{of}", "--output", output)
        run(folder, *images, *PAIRS, *options, *shard)
    return outputs


@pytest.mark.parametrize(
    "suffix, of, options",
    [("csv", 1, ()), ("csv", 3, ("--boxes",)), ("jsonl", 2, ()), ("csv", 5, ("--no-scores",))],
)
def test_merged_shards_are_the_whole(folder, paths, tmp_path, suffix, of, options, capsys):
    whole = tmp_path / f"whole.{suffix}"
    assert run(folder, *paths, *PAIRS, *options, "--output", whole) == 1
    shards = shards_of(folder, paths, tmp_path, suffix, of, *options)
    order = np.random.default_rng(0).permutation(of)
    merged = tmp_path / f"merged.{suffix}"
    merge([str(merged), *(str(shards[number]) for number in order)])
    assert merged.read_bytes() == whole.read_bytes()
    assert f"{merged}: 7 images, 1 of them could not be read" in capsys.readouterr().out
    # Four batches; with five shards one is empty.
    sizes = [len(images) for images in map(images_of, shards)]
    assert sum(sizes) == 7 and min(sizes) >= {1: 7, 3: 2, 2: 3, 5: 0}[of]


def images_of(path):
    lines = path.read_text().splitlines()
    return lines[1:] if path.suffix == ".csv" else lines


def test_fewer_images_than_shards(folder, paths, tmp_path):
    run(folder, paths[0], "--output", tmp_path / "whole.jsonl")
    shards = [tmp_path / f"{number}.jsonl" for number in (1, 2, 3)]
    for number, shard in enumerate(shards, start=1):
        assert run(folder, paths[0], "--shard", f"{number}/3", "--output", shard) == 0
    merge([str(tmp_path / "merged.jsonl"), *map(str, shards)])
    assert (tmp_path / "merged.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("count", [0, 1, 7, 16, 1000])
def test_parts_are_whole_batches_and_all_of_it(count):
    for of in range(1, 6):
        parts = [Shard(f"{number}/{of}").part(count, 3) for number in range(1, of + 1)]
        assert [index for part in parts for index in part] == list(range(count))
        assert all(part.start % 3 == 0 for part in parts if part)
        batches = [-(-len(part) // 3) for part in parts]
        assert max(batches) - min(batches) <= 1


@pytest.mark.parametrize("shard", ["0/2", "3/2", "2", "1/0", "-1/2", "a/b", "1/2/3", ""])
def test_wrong_shards_are_refused(folder, paths, tmp_path, capsys, shard):
    output = tmp_path / "tags.csv"
    assert run(folder, paths[0], f"--shard={shard}", "--output", output) == 2
    assert "Expected --shard K/N with K from 1 to N" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


@pytest.fixture(scope="module")
def three_shards(folder, tmp_path_factory):
    """Names of images that are not there, so that no model computes anything, and their shards."""
    directory = tmp_path_factory.mktemp("shards")
    names = [str(directory / f"{number}.png") for number in range(6)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "list_images", lambda arguments, *_: list(arguments))
        shards_of(folder, names, directory, "csv", 3)
    return names, directory


@pytest.mark.parametrize(
    "change, message",
    [
        ("missing", "Expected 3 shards. Missing: 2"),
        ("doubled", "Expected each shard once. Received the same one as"),
        ("unfinished", "2.csv is not finished: 2.csv.part is there"),
        ("absent", "There is no"),
        ("no description", "2.csv.shard.json, which `patchpu predict --shard` writes"),
        ("damaged", "2.csv.shard.json is damaged"),
        ("cut off", "2.csv was changed or cut off"),
        ("other settings", "differ in top_k"),
        ("other images", "differ in images"),
        ("other model", "differ in model"),
        ("other number", "differ in number of shards"),
        ("other suffix", "all end with .csv, or all with .jsonl"),
        ("output", "is there already"),
    ],
)
def test_what_is_not_one_whole_set_is_not_merged(
    folder, model, three_shards, tmp_path, capsys, change, message, monkeypatch
):
    names, directory = three_shards
    monkeypatch.setattr(module, "list_images", lambda arguments, *_: list(arguments))
    shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
    shards = [tmp_path / f"{number}.csv" for number in (1, 2, 3)]
    output, second = tmp_path / "merged.csv", shards[1]
    again = ("--shard", "2/3", "--output", second, "--overwrite", *PAIRS)
    if change == "missing":
        del shards[1]
    elif change == "doubled":
        shards.append(shards[1])
    elif change == "unfinished":
        second.rename(tmp_path / "2.csv.part")
    elif change == "absent":
        second.unlink()
    elif change == "no description":
        (tmp_path / "2.csv.shard.json").unlink()
    elif change == "damaged":
        (tmp_path / "2.csv.shard.json").write_text('{"shard": "2"}')
    elif change == "cut off":
        second.write_bytes(second.read_bytes()[:-1])
    elif change == "other settings":
        run(folder, *names, *again, "--top-k", 1)
    elif change == "other images":
        run(folder, *names[::-1], *again)
    elif change == "other model":
        set_on(model, thresholds=[0.5] * 3).save(tmp_path / "other.keras")
        run(tmp_path / "other.keras", *names, *again)
    elif change == "other number":
        run(folder, *names, "--shard", "2/4", "--output", second, "--overwrite", *PAIRS)
    elif change == "other suffix":
        output = tmp_path / "merged.jsonl"
    elif change == "output":
        output.write_text("mine")
    before = output.read_text() if output.exists() else None
    with pytest.raises(SystemExit) as exited:
        merge([str(output), *map(str, shards)])
    assert exited.value.code == 2
    assert message in capsys.readouterr().err
    assert (output.read_text() if output.exists() else None) == before
    assert not list(tmp_path.glob(".tmp*"))


def test_a_killed_shard_goes_on_as_itself_only(folder, paths, tmp_path, monkeypatch, capsys):
    whole, output = tmp_path / "whole.csv", tmp_path / "tags.csv"
    shard = ("--shard", "2/2", *PAIRS)
    run(folder, *paths, *shard, "--output", whole)
    call = Tagger.__call__

    def killed_after_one(self, images):
        yield next(call(self, images))
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Tagger, "__call__", killed_after_one)
        with pytest.raises(Killed):
            run(folder, *paths, *shard, "--output", output)
    assert run(folder, *paths, "--shard", "1/2", *PAIRS, "--output", output) == 2
    assert "other settings (shard)" in capsys.readouterr().err
    assert run(folder, *paths, *shard, "--output", output) == 1  # the broken one is in it
    assert output.read_bytes() == whole.read_bytes()
    described = [path.with_name(path.name + ".shard.json").read_text() for path in (whole, output)]
    assert described[0] == described[1]


def test_memory_does_not_grow_with_the_images(folder, tmp_path, monkeypatch):
    """But for the list of names: also where most cannot be read, and after a kill."""

    class Unreadable:  # what loading a model leaves for the collector would hide the rest
        label_names = ["label"]

        def __call__(self, images):
            return (Tags(name, error="gone") for name in images)

    monkeypatch.setattr(module, "Tagger", lambda *_, **__: Unreadable())

    def peak(count):
        names = [f"{number}.png" for number in range(count)]
        monkeypatch.setattr(module, "list_images", lambda *_: names)
        output = tmp_path / f"{count}.csv"
        gc.collect()
        tracemalloc.start()
        run(folder, "photos", "--output", output)
        output.rename(tmp_path / f"{count}.csv.part")  # reading it would be the peak
        settings = {"model": hashlib.sha256((folder / "last.keras").read_bytes()).hexdigest()}
        settings |= {"top_k": None, "boxes": False, "scores": True, "overlays": None}
        settings |= {"max_pixels": None}
        (tmp_path / f"{count}.csv.part.json").write_text(json.dumps(settings))
        run(folder, "photos", "--output", output)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(100)  # what is imported on the way
    small, large = peak(2_000), peak(20_000)
    assert large - small < 2 * 18_000  # a pointer an image would be 8 bytes
