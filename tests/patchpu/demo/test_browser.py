"""The page of `patchpu demo` in a real browser."""

import csv
import io
import re

import numpy as np
import pytest
from PIL import Image

from keras_patchpu.tagging import Tagger
from keras_patchpu.visualize import attention_overlay
from patchpu.commands import predict

pytestmark = pytest.mark.browser


def expect(locator):
    """Playwright's assertions, which wait for what the page is about to show."""
    from playwright.sync_api import expect

    return expect(locator)


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
    page.locator("#upload input[type=file]").set_input_files(path)


def tag(page, label):
    """The button of a label."""
    return page.locator(f"#tags input[value='{label}']")


def expected_list(explainer, path, given=None):
    """The explanation of an image, its labels in the list's order, and the list's texts."""
    explanation = explainer(str(path), path.name)
    scores = explanation.found.scores
    order = sorted(range(3), key=lambda label: -scores[label])
    given = order if given is None else given
    order = given + [label for label in order if label not in given]
    names = ["cat", "<i>dog</i>", "owl"]
    texts = [
        f"{'✓ ' if label in given else ''}{names[label]} · {100 * scores[label]:.1f} %"
        for label in order
    ]
    return explanation, order, texts


def test_an_uploaded_image_gets_the_tags_of_tagger(open_page, model, explainer, folder):
    page = open_page()
    assert page.inner_text("h1") == "a <b>model</b>"
    first, _ = picture(page)
    upload(page, folder / "2.png")
    _, pixels = picture(page, other_than=first)
    (expected,) = Tagger(model, batch_size=1)([str(folder / "2.png")])
    explanation, order, texts = expected_list(explainer, folder / "2.png")
    expect(page.locator("#tags label")).to_have_text(texts)
    expect(page.locator("#tags [data-testid=block-info]")).to_have_text(
        f"Tags: {', '.join(expected.tags)}"
    )
    expect(tag(page, order[0])).to_be_checked()
    expect(page.locator("#overlay [data-testid=block-label]")).to_contain_text("2.png")
    overlay, text = explainer.overlay(explanation, order[0], "all")
    np.testing.assert_array_equal(pixels, overlay)
    assert page.get_attribute("#overlay img", "alt") == text
    elsewhere = [url for url in page.requests if not re.match("http://127.0.0.1:|data:|blob:", url)]
    assert page.requests and elsewhere == []


def test_the_overlay_is_that_of_the_tag_and_the_level(open_page, explainer, folder):
    page = open_page()
    explanation, order, _ = expected_list(explainer, folder / "1.png")
    before, _ = picture(page)
    page.get_by_role("button", name="Thumbnail 2").click()
    before, pixels = picture(page, other_than=before)
    shown = [pixels]
    # By keyboard: what has the focus is chosen with the space bar.
    tag(page, order[1]).focus()
    page.keyboard.press("Space")
    before, pixels = picture(page, other_than=before)
    shown.append(pixels)
    np.testing.assert_array_equal(pixels, explainer.overlay(explanation, order[1], "all")[0])
    for view in ("0", "1", "sharpened"):
        page.locator(f"#view input[value='{view}']").check()
        before, pixels = picture(page, other_than=before)
        expected, text = explainer.overlay(explanation, order[1], view)
        np.testing.assert_array_equal(pixels, expected)
        expect(page.locator("#told")).to_have_text(text)
        shown.append(pixels)
    plain = attention_overlay(explanation.image, np.zeros(pixels.shape[:2])) * 255
    shown.append(np.round(plain))
    for index, one in enumerate(shown):
        assert all((one != other).any() for other in shown[index + 1 :])


def test_a_slider_changes_the_tags_given(open_page, explainer, folder):
    page = open_page()
    title, rows = page.locator("#tags [data-testid=block-info]"), page.locator("#tags label")
    _, order, texts = expected_list(explainer, folder / "0.png")
    tag(page, order[1]).check()
    page.locator("#thresholds > button").click()
    number = page.locator("#thresholds input[type=number]")
    expect(number).to_have_count(3)
    for label, value in enumerate([1.0, 1.0, 0.0]):
        number.nth(label).fill(str(value))
        number.nth(label).press("Enter")
    expect(title).to_have_text("Tags: owl")
    expect(rows).to_have_text(expected_list(explainer, folder / "0.png", [2])[2])
    expect(page.locator("#rule input:checked")).to_have_value("By sliders")
    expect(tag(page, order[1])).to_be_checked()
    slider = page.locator("#thresholds input[type=range]").nth(2)
    slider.focus()
    slider.press("End")
    expect(title).to_have_text("No tag is given")
    page.get_by_label("The best three").check()
    expect(rows).to_have_text(texts)


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
    predict.main(["pets.keras", "3.png", "--output", str(output), "--batch-size", "1"])
    expected = list(csv.reader(output.open(newline="", encoding="utf-8")))
    assert rows[0] == expected[0] and len(rows) == 2
    assert rows[1][:3] == expected[1][:3]
    np.testing.assert_allclose(np.float64(rows[1][3:]), np.float64(expected[1][3:]), atol=2e-6)


def test_what_is_no_image_is_refused_and_nothing_is_lost(open_page, explainer, folder):
    page = open_page()
    before, _ = picture(page)
    upload(page, folder / "notes.txt")
    said = page.get_by_role("status")
    said.get_by_text("notes.txt: not an image that can be read").wait_for()
    upload(page, folder / "bomb.png")
    said.get_by_text("are more than the limit").wait_for()
    assert picture(page)[0] == before
    expect(page.locator("#tags label")).to_have_text(expected_list(explainer, folder / "0.png")[2])
    upload(page, folder / "1.png")
    picture(page, other_than=before)
    expect(page.locator("#tags label")).to_have_text(expected_list(explainer, folder / "1.png")[2])


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


def test_two_users_do_not_see_each_others_images(open_page, explainer, folder):
    pages = [open_page(), open_page()]
    before = [picture(page)[0] for page in pages]
    for page, name in zip(pages, ("2.png", "3.png")):
        upload(page, folder / name)
    for page, source, name in zip(pages, before, ("2.png", "3.png")):
        source, pixels = picture(page, other_than=source)
        explanation, order, texts = expected_list(explainer, folder / name)
        expect(page.locator("#tags label")).to_have_text(texts)
        tag(page, order[2]).check()
        _, pixels = picture(page, other_than=source)
        np.testing.assert_array_equal(pixels, explainer.overlay(explanation, order[2], "all")[0])
