"""A model, images, one server and one browser for all tests of the page."""

import shutil
import struct
import zlib

import keras
import numpy as np
import pytest
from PIL import Image
from small import calibrated_classifier

from keras_patchpu import PatchClassifier
from keras_patchpu.datasets.read_image import read_image
from keras_patchpu.tagging import Explainer

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WAIT = 60_000  # milliseconds, for a machine with much to do


@pytest.fixture(scope="session")
def model():
    keras.utils.set_random_seed(0)
    return calibrated_classifier(label_names=["cat", "<i>dog</i>", "owl"])


@pytest.fixture(scope="session")
def explainer(model):
    """Of a model that predicts step by step, which saves compiling."""
    fused = PatchClassifier.fused

    def eager(self):
        model = fused(self)
        model.run_eagerly = True
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PatchClassifier, "fused", eager)
        return Explainer(model)


@pytest.fixture(scope="session")
def folder(tmp_path_factory, model):
    """Four images, a text, a picture that says it is huge, and the model."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for index, shape in enumerate([(32, 32), (48, 20), (20, 64), (90, 70)]):
        # Of large fields, as of noise all scores are alike.
        pixels = random.integers(0, 256, (3, 3, 3)).astype("uint8")
        image = Image.fromarray(pixels).resize(shape[::-1], Image.Resampling.NEAREST)
        image.save(folder / f"{index}.png")
    (folder / "notes.txt").write_text("no image")
    (folder / "bomb.png").write_bytes(png_that_says(100_000, 100_000))
    model.save(folder / "pets.keras")
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


@pytest.fixture(scope="session")
def gradio(tmp_path_factory):
    """Gradio, its files in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        yield pytest.importorskip("gradio", reason="needs the extra `demo`")


@pytest.fixture(scope="session")
def address(gradio, explainer, folder):
    """Address of the page, with two examples."""
    from patchpu.demo.page import LOOK, make_page
    from patchpu.demo.serve import free_port, launch

    images = [str(folder / f"{index}.png") for index in range(2)]
    examples = [(image, image, read_image(image)) for image in images]
    page = make_page(explainer, examples, "a <b>model</b>")
    port = free_port("127.0.0.1", 0)
    launch(page, "127.0.0.1", port, LOOK)
    page.server.config.timeout_graceful_shutdown = 1
    yield f"http://127.0.0.1:{port}"
    page.close(verbose=False)


@pytest.fixture(scope="session")
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
    contexts = []

    def open_page(**options):
        contexts.append(browser.new_context(**options))
        contexts[-1].set_default_timeout(WAIT)
        page = contexts[-1].new_page()
        page.requests = []
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto(address)
        page.locator("#tags label").first.wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
