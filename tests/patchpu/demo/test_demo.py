"""The page to try a model on: its functions by hand, the page in a real browser, the command."""

import contextlib
import csv
import io
import os
import re
import shutil
import signal
import socket
import struct
import sys
import threading
import zlib

import keras
import numpy as np
import pytest
from PIL import Image
from small import calibrated_classifier

from keras_patchpu import PatchClassifier, demo_command
from keras_patchpu.datasets import ImageError, load_digit_scenes
from keras_patchpu.datasets.read_image import read_image
from keras_patchpu.models import ResNetClassifier
from keras_patchpu.tagging import Explainer, Tagger, Tags, csv_text, digit_scenes, given_labels
from keras_patchpu.visualize import attention_overlay
from patchpu.commands.predict import predict

NAMES = ["cat", "<i>dog</i>", "owl"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WAIT = 60_000  # milliseconds, for a machine with much to do


@pytest.fixture(scope="module", autouse=True)
def environment(tmp_path_factory):
    """Before Gradio is imported; and models predict step by step, which saves compiling."""
    fused = PatchClassifier.fused

    def eager(self):
        model = fused(self)
        model.run_eagerly = True
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        patch.setattr(PatchClassifier, "fused", eager)
        # Not first while `capsys` stands in for the streams, which it closes.
        with contextlib.suppress(ImportError):
            import gradio  # noqa: F401
        yield


@pytest.fixture(autouse=True)
def undone(monkeypatch):
    """What the command sets for its own process is undone after each test."""
    for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, os.environ.get(name, ""))


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return calibrated_classifier(label_names=NAMES)


@pytest.fixture(scope="module")
def explainer(model):
    return Explainer(model)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model):
    """Four images, a text, and a picture that says it is huge."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for index, shape in enumerate([(32, 32), (48, 20), (20, 64), (90, 70)]):
        # Of large fields, as of noise all scores are alike.
        pixels = random.integers(0, 256, (3, 3, 3)).astype("uint8")
        image = Image.fromarray(pixels).resize(shape[::-1], Image.Resampling.NEAREST)
        image.save(folder / f"{index}.png")
    (folder / "notes.txt").write_text("no image")
    (folder / "bomb.png").write_bytes(png_that_says(100_000, 100_000))
    model.save(folder / "last.keras")
    return folder


def png_that_says(width, height):
    """The head of a PNG of this size, and nothing of its pixels."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


# === What the page is made of ===


@pytest.mark.parametrize("name", ["0.png", "1.png", "2.png", "3.png"])
def test_scores_and_tags_are_the_taggers(model, explainer, folder, name):
    (expected,) = Tagger(model, batch_size=1)([str(folder / name)])
    found = explainer(str(folder / name), name).found
    assert (found.name, found.size) == (name, expected.size)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    assert [NAMES[label] for label in given_labels(found.scores)] == list(expected.tags)


@pytest.mark.parametrize(
    "scores, thresholds, expected",
    [
        ([0.1, 0.9, 0.5, 0.9], None, [1, 3, 2]),  # the best three, the first of equals first
        ([0.1, 0.9, 0.5, 0.9], 0.5, [1, 3, 2]),
        ([0.1, 0.9, 0.5, 0.9], [0.05, 0.95, 0.6, 0.9], [3, 0]),
        ([0.1, 0.2], 0.3, []),
        ([0.3, 0.2], [0.3, 0.3], [0]),
    ],
)
def test_given_labels_by_hand(scores, thresholds, expected):
    # float32 as of a model; thresholds that are exact in it
    scores = np.array(scores, "float32").astype("float64")
    thresholds = None if thresholds is None else np.array(thresholds, "float32")
    assert given_labels(scores, thresholds).tolist() == expected


def test_heat_of_levels_by_hand(explainer):
    image = np.zeros((32, 64, 3), "uint8")
    explanation = explainer(image, "black")
    assert explanation.image.shape == (360, 720, 3)
    assert explainer.views == {
        "all": "all patches",
        "0": "2 × 2 patches",
        "1": "1 × 1 patch",
        "sharpened": "sharpened",
    }
    attention = np.array([[0.1, 0.2, 0.3, 0.15, 0.25], [0.0, 0.0, 0.0, 0.0, 1.0], [1, 0, 0, 0, 0]])
    explanation.outputs["attention"] = attention[None].astype("float32")
    explanation.heats.clear()

    def corners(label, view):
        heat = explainer.heat(explanation, label, view)
        assert heat.shape == (360, 720)
        quarters = heat.reshape(2, 180, 2, 360).swapaxes(1, 2)
        assert np.ptp(quarters, axis=(2, 3)).max() < 1e-6
        return quarters[:, :, 0, 0]

    fine = np.array([[0.1, 0.2], [0.3, 0.15]])
    np.testing.assert_allclose(corners(0, "0"), fine / 0.1875, rtol=1e-6)
    np.testing.assert_allclose(corners(0, "1"), np.ones((2, 2)), rtol=1e-6)
    np.testing.assert_allclose(corners(0, "all"), (fine + 0.25) / 0.4375, rtol=1e-6)
    np.testing.assert_allclose(corners(1, "0"), np.zeros((2, 2)))
    np.testing.assert_allclose(corners(2, "all"), [[4, 0], [0, 0]], rtol=1e-6)

    # Alone, all patches of a level are lit; added up, what is above the mean.
    picture, text = explainer.overlay(explanation, 0, "0")
    strength = 0.7 * fine / 0.1875 / 2.0  # 2 times the mean, and more, is the strongest
    np.testing.assert_allclose(picture[::180, ::360, 0], 255 * strength, atol=0.51)
    assert text == "2 × 2 patches: 75 % of the attention of “cat”, the strongest 30 %."
    picture, text = explainer.overlay(explanation, 2, "all")
    np.testing.assert_allclose(picture[::180, ::360, 0], [[0.7 * 255, 0], [0, 0]], atol=0.51)
    assert text == "Red: the attention of “owl” is above its mean; at its peak 4.0 times the mean."
    picture, text = explainer.overlay(explanation, 1, "0")
    assert not picture.any() and text == "Nothing speaks for “<i>dog</i>” here."


def test_a_padded_image_is_shown_without_its_padding(model):
    padded = type(model).from_config({**model.get_config(), "image_fit": "pad"})
    padded.set_weights(model.get_weights())
    explainer = Explainer(padded)
    explanation = explainer(np.full((16, 32, 3), 99, "uint8"), "wide")
    # It lies in rows 8 to 24 of 32, so half of it in the upper patches.
    explanation.outputs["attention"] = np.array([[[1, 2, 3, 4, 0]]], "float32")
    explanation.heats.clear()
    heat = explainer.heat(explanation, 0, "all")
    assert heat.shape == (360, 720)
    np.testing.assert_allclose(heat[[0, 0, 359, 359], [0, 719, 0, 719]], [0.4, 0.8, 1.2, 1.6])
    assert explanation.found.size == (16, 32)


def test_sharpened_is_that_of_reports(model, explainer, folder):
    from keras_patchpu.metrics import heat_pixels
    from keras_patchpu.metrics.model_heat import sharpened_heat_of

    explanation = explainer(str(folder / "0.png"), "0.png")
    pixels = read_image(folder / "0.png", (32, 32))
    expected = heat_pixels(sharpened_heat_of(model, pixels[None]), [0], [1], (32, 32))[0]
    heat = explainer.heat(explanation, 1, "sharpened")
    at = np.arange(720) * 32 // 720
    np.testing.assert_allclose(heat, (expected / expected.mean())[at][:, at], rtol=1e-4)


def test_grad_cam_of_a_resnet():
    model = ResNetClassifier(2, (32, 32), width=0.05, output_stride=8, label_names=["a", "b"])
    model.run_eagerly = True
    explainer = Explainer(model)
    assert explainer.views == {"grad_cam": "Grad-CAM"}
    explanation = explainer(np.zeros((32, 32, 3), "uint8"), "black")
    maps = np.full((1, 4, 4, 2), -1.0)
    maps[0, 0, 0, 1], maps[0, 3, 3, 1] = 6.0, 2.0
    explanation.outputs["score_maps"] = maps
    explanation.heats.clear()
    heat = explainer.heat(explanation, 1, "grad_cam")
    assert heat[0, 0] == heat.max() and heat[0, 0] / heat[-1, -1] == pytest.approx(3)
    assert heat[300, 100] == 0
    _, text = explainer.overlay(explanation, 1, "grad_cam")
    assert text.startswith("Red: what speaks for “b” (Grad-CAM: a ResNet has no attention) is")


def test_csv_has_the_columns_of_predict():
    found = Tags("a,b.png", scores=np.array([0.25, 1 / 3], "float32"), size=(5, 6))
    text = csv_text(found, [1], ("cat", "owl"))
    assert text == 'image,tags,error,score:cat,score:owl\n"a,b.png",owl,,0.250000,0.333333\n'


def test_digit_scenes_are_those_of_the_run(tmp_path):
    digits = [str(digit) for digit in range(10)]
    model = calibrated_classifier(label_names=digits, num_labels=10)
    default = digit_scenes(model, tmp_path, count=2)
    (tmp_path / "config.yaml").write_text("dataset: digits\nmax_digits: 1\ndifficulty: 1.0\n")
    own = digit_scenes(model, tmp_path, count=2)
    assert [name for name, _ in own] == ["digit scene 1", "digit scene 2"]
    expected = load_digit_scenes(2, "validation", 32, max_digits=1, difficulty=1.0)
    np.testing.assert_array_equal([image for _, image in own], expected.images)
    expected = load_digit_scenes(2, "validation", 32)
    np.testing.assert_array_equal([image for _, image in default], expected.images)
    (tmp_path / "config.yaml").write_text("dataset: voc\n")
    assert digit_scenes(model, tmp_path) == []
    assert digit_scenes(calibrated_classifier(label_names=NAMES), tmp_path / "none") == []


def test_an_image_that_cannot_be_read(explainer, folder):
    with pytest.raises(ImageError, match="notes.txt: not an image that can be read"):
        explainer(str(folder / "notes.txt"), "notes.txt")
    with pytest.raises(ImageError, match="more than the limit of 100,000,000"):
        explainer(str(folder / "bomb.png"), "bomb.png")


def test_a_model_that_predicts_nan(model):
    broken = type(model).from_config(model.get_config())
    broken.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    with pytest.raises(ValueError, match="predicts NaN"):
        Explainer(broken)


# === The page in a browser ===


@contextlib.contextmanager
def served(page):
    """Address of a page that a thread serves."""
    from patchpu.demo.page import listen, make_server

    with listen("127.0.0.1", 0) as listening:
        server = make_server(page, listening)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(60)


@pytest.fixture(scope="module")
def address(explainer, folder):
    pytest.importorskip("gradio", reason="needs the extra `demo`")
    from patchpu.demo.page import make_page

    images = [str(folder / f"{index}.png") for index in range(2)]
    examples = [(image, image, read_image(image)) for image in images]
    with served(make_page(explainer, examples, "a <b>model</b>")) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `test`")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser here: none of {', '.join(BROWSERS)}")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=found, args=["--no-sandbox"])
        playwright.expect.set_options(timeout=WAIT)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, address):
    """A function that opens the page anew, once it shows its first example."""
    with contextlib.ExitStack() as stack:

        def open_page(**options):
            context = browser.new_context(**options)
            stack.callback(context.close)
            context.set_default_timeout(WAIT)
            page = context.new_page()
            page.requests = []
            page.on("request", lambda request: page.requests.append(request.url))
            page.goto(address)
            picture(page)
            return page

        yield open_page


def picture(page, other_than=None):
    """Address and pixels of the picture shown, once it is another one."""
    page.wait_for_function(
        "(before) => { const image = document.querySelector('#overlay img');"
        "return image && image.complete && image.naturalWidth && image.src !== before; }",
        arg=other_than,
    )
    source = page.evaluate("document.querySelector('#overlay img').src")
    data = page.request.get(source).body()
    return source, np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def upload(page, path):
    if page.locator("#upload input[type=file]").count() == 0:
        page.locator("#upload button[aria-label='Remove this file']").or_(
            page.locator("#upload button[aria-label='Clear']")
        ).first.click()
    page.locator("#upload input[type=file]").set_input_files(path)


def expect(locator):
    """Playwright's assertions, which wait for what the page is about to show."""
    from playwright.sync_api import expect

    return expect(locator)


def tags(page):
    return page.locator("#given b").all_inner_texts()


def scores(page):
    """Dict of labels to what the page says of them."""
    rows = page.locator("#tags label")
    return dict(zip(rows.locator("span").all_inner_texts(), rows.locator("em").all_inner_texts()))


def expected_of(explainer, path):
    explanation = explainer(str(path), path.name)
    values = explanation.found.scores
    ranked = [NAMES[label] for label in given_labels(values)]
    return explanation, ranked, {NAMES[n]: f"{100 * values[n]:.1f} %" for n in range(3)}


def test_an_uploaded_image_gets_the_tags_of_tagger(open_page, model, explainer, folder):
    page = open_page()
    assert page.inner_text("h1") == "a <b>model</b>"
    first, _ = picture(page)
    upload(page, folder / "2.png")
    _, pixels = picture(page, other_than=first)
    (expected,) = Tagger(model, batch_size=1)([str(folder / "2.png")])
    assert tags(page) == list(expected.tags)
    explanation, _, texts = expected_of(explainer, folder / "2.png")
    assert scores(page) == texts
    best = NAMES.index(expected.tags[0])
    assert page.locator("#tags input:checked").input_value() == str(best)
    np.testing.assert_array_equal(pixels, explainer.overlay(explanation, best, "all")[0])
    elsewhere = [url for url in page.requests if not re.match("http://127.0.0.1:|data:|blob:", url)]
    assert elsewhere == []


def test_the_overlay_is_that_of_the_tag_and_the_level(open_page, explainer, folder):
    page = open_page()
    explanation, ranked, _ = expected_of(explainer, folder / "1.png")
    before, _ = picture(page)
    page.locator(".examples button").nth(1).click()
    before, pixels = picture(page, other_than=before)
    shown = [pixels]
    second = NAMES.index(ranked[1])
    page.locator(f"#tags input[value='{second}']").check()
    before, pixels = picture(page, other_than=before)
    shown.append(pixels)
    np.testing.assert_array_equal(pixels, explainer.overlay(explanation, second, "all")[0])
    for view in ("0", "1", "sharpened"):
        page.locator(f"#view input[value='{view}']").check()
        before, pixels = picture(page, other_than=before)
        expected, text = explainer.overlay(explanation, second, view)
        np.testing.assert_array_equal(pixels, expected)
        assert page.inner_text("#told").strip() == text
        shown.append(pixels)
    plain = attention_overlay(explanation.image, np.zeros(pixels.shape[:2])) * 255
    shown.append(np.round(plain))
    for index, one in enumerate(shown):
        assert all((one != other).any() for other in shown[index + 1 :])


def test_a_slider_changes_the_tags_given(open_page, explainer, folder):
    page = open_page()
    _, ranked, _ = expected_of(explainer, folder / "0.png")
    assert tags(page) == ranked
    page.locator("#thresholds > button").click()
    number = page.locator("#thresholds input[type=number]")
    expect(number).to_have_count(3)
    for label, value in enumerate([0.0, 1.0, 1.0]):
        number.nth(label).fill(str(value))
        number.nth(label).press("Enter")
    page.wait_for_function("document.querySelectorAll('#given b').length === 1")
    assert tags(page) == ["cat"]
    expect(page.locator("#rule input:checked")).to_have_value("By the sliders below")
    slider = page.locator("#thresholds input[type=range]").first
    slider.focus()
    slider.press("End")
    page.wait_for_function("document.querySelectorAll('#given b').length === 0")
    assert page.inner_text("#given") == "No tag is given."
    expect(page.locator("#tags u")).to_have_count(3)
    page.locator("#rule input").first.check()
    page.wait_for_function("document.querySelectorAll('#given b').length === 3")
    assert tags(page) == ranked
    for label in range(3):
        expect(number.nth(label)).to_have_value("0.5")
    assert page.locator("#rule input:checked").input_value() == "The best three"


def test_the_csv_is_that_of_predict(open_page, folder, tmp_path, monkeypatch):
    page = open_page()
    before, _ = picture(page)
    upload(page, folder / "3.png")
    picture(page, other_than=before)
    with page.expect_download() as download:
        page.locator("#download").click()
    assert download.value.suggested_filename == "tags.csv"
    rows = list(csv.reader(download.value.path().open(newline="", encoding="utf-8")))
    monkeypatch.chdir(folder)
    output = tmp_path / "expected.csv"
    predict(["last.keras", "3.png", "--output", str(output), "--batch-size", "1"])
    expected = list(csv.reader(output.open(newline="", encoding="utf-8")))
    assert rows[0] == expected[0] and len(rows) == 2
    assert rows[1][:3] == expected[1][:3]
    np.testing.assert_allclose(np.float64(rows[1][3:]), np.float64(expected[1][3:]), atol=2e-6)


def test_what_is_no_image_is_refused_and_the_page_goes_on(open_page, explainer, folder):
    page = open_page()
    upload(page, folder / "notes.txt")
    page.get_by_text("notes.txt: not an image that can be read").wait_for()
    expect(page.locator("#message [role=alert]")).to_have_count(1)
    expect(page.locator("#overlay img")).to_have_count(0)
    expect(page.locator("#tags label")).to_have_count(0)
    expect(page.locator("#download")).to_be_disabled()
    upload(page, folder / "bomb.png")
    page.get_by_text("bomb.png: 10000000000 pixels are more than the limit").or_(
        page.get_by_text("bomb.png: 100000 x 100000 pixels are more than the limit")
    ).wait_for()
    upload(page, folder / "1.png")
    picture(page)
    assert tags(page) == expected_of(explainer, folder / "1.png")[1]
    expect(page.locator("#message [role=alert]")).to_have_count(0)


def test_at_the_width_of_a_phone(open_page):
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    before, _ = picture(page)
    page.locator("#thresholds > button").tap()
    page.locator("#thresholds input[type=range]").first.wait_for()
    assert page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [390, 390]
    for selector in ("#upload", "#overlay img", "#view", "#tags", "#download", "#thresholds"):
        box = page.locator(selector).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["height"] > 20
    assert page.locator("#overlay img").bounding_box()["width"] > 300
    page.locator("#tags label").last.tap()
    picture(page, other_than=before)
    # The picture comes into view by itself.
    page.wait_for_function("document.querySelector('#overlay').getBoundingClientRect().top >= -1")


def test_two_users_do_not_see_each_others_images(open_page, explainer, folder):
    pages = [open_page(), open_page()]
    before = [picture(page)[0] for page in pages]
    for page, name in zip(pages, ("2.png", "3.png")):
        upload(page, folder / name)
    for page, source, name in zip(pages, before, ("2.png", "3.png")):
        source, pixels = picture(page, other_than=source)
        explanation, ranked, texts = expected_of(explainer, folder / name)
        assert scores(page) == texts
        label = NAMES.index(ranked[2])
        page.locator(f"#tags input[value='{label}']").check()
        _, pixels = picture(page, other_than=source)
        np.testing.assert_array_equal(pixels, explainer.overlay(explanation, label, "all")[0])


# === Pages of other models, without a browser ===


def components(page, kind):
    return [item["props"] for item in page.get_config_file()["components"] if item["type"] == kind]


def test_sliders_start_from_the_models_thresholds(model):
    pytest.importorskip("gradio", reason="needs the extra `demo`")
    from patchpu.demo.page import make_page

    own = type(model).from_config({**model.get_config(), "thresholds": [0.25, 0.5, 1.0]})
    page = make_page(Explainer(own))
    sliders = components(page, "slider")
    assert [(item["label"], item["value"]) for item in sliders] == list(zip(NAMES, [0.25, 0.5, 1]))
    rule = components(page, "radio")[1]
    assert rule["value"] == "By the model's thresholds"


def test_one_slider_for_many_labels_and_no_csv_of_a_semicolon():
    pytest.importorskip("gradio", reason="needs the extra `demo`")
    from patchpu.demo.page import make_page

    names = [f"label {number}" for number in range(12)] + ["a;b"]
    page = make_page(Explainer(calibrated_classifier(num_labels=13, label_names=names)))
    (slider,) = components(page, "slider")
    assert (slider["label"], slider["value"]) == ("A tag is given from", 0.5)
    (download,) = components(page, "downloadbutton")
    assert not download["visible"]


# === The command ===


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["none.keras"], "There is no model none.keras"),
        (["last.keras", "--examples", "none*.png"], "Received: none*.png"),
        (["last.keras", "--examples", "notes.txt"], "None of the --examples can be read"),
        (["last.keras", "--port", "70000"], "Expected --port from 0 to 65535. Received: 70000"),
        (["last.keras", "--max-pixels", "0"], "Expected `max_pixels` to be a positive integer"),
        (["last.keras", "--host", "999.1.1.1"], "cannot listen on 999.1.1.1"),
    ],
)
def test_errors_of_the_command(folder, monkeypatch, capsys, arguments, message):
    pytest.importorskip("gradio", reason="needs the extra `demo`")
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as ended:
        demo_command.demo([*arguments, *(() if "--port" in arguments else ("--port", "0"))])
    assert ended.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("patchpu demo: error: ") and message in error


def test_a_port_that_is_taken(folder, capsys):
    pytest.importorskip("gradio", reason="needs the extra `demo`")
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SystemExit) as ended:
        port = str(taken.getsockname()[1])
        demo_command.demo([str(folder), "--port", port])
    assert ended.value.code == 2
    assert f"cannot listen on 127.0.0.1, port {port}" in capsys.readouterr().err


def test_without_the_extra(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(SystemExit) as ended:
        demo_command.demo([str(folder)])
    assert ended.value.code == 2
    assert "pip install 'keras_patchpu[demo]'" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_the_model_until_a_signal(folder, monkeypatch, capsys, number):
    pytest.importorskip("gradio", reason="needs the extra `demo`")
    uvicorn = pytest.importorskip("uvicorn")
    served = []

    def run(server, sockets):
        served.append((server.config.app, sockets[0].getsockname()))
        assert os.path.isdir(os.environ["GRADIO_TEMP_DIR"])
        signal.getsignal(number)(number, None)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(uvicorn.Server, "run", run)
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as ended:
        demo_command.demo(["last.keras", "--port", "0", "--examples", "0.png", "notes.txt"])
    assert ended.value.code == 128 + number
    assert signal.getsignal(signal.SIGTERM) == before
    ((_, (host, port)),) = served
    assert host == "127.0.0.1" and port > 0
    output, errors = capsys.readouterr()
    assert output.endswith(f"The page is at http://127.0.0.1:{port} until Ctrl-C\n")
    assert "left out of the examples: notes.txt: not an image" in errors
    assert not os.path.exists(os.environ["GRADIO_TEMP_DIR"])
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
