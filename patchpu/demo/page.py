"""The page of `patchpu demo`: components of Gradio, and what happens when one is used."""

import html
import os
import tempfile

import gradio as gr
import numpy as np

from keras_patchpu.tagging import given_labels
from keras_patchpu.utils.validation import FileError
from keras_patchpu.utils.whole_files import write_whole
from patchpu.prediction.rows import csv_text

MOST_SLIDERS = 12  # with more labels one slider stands for all
_CACHE = (600, 3600)  # seconds: how often old files are looked for, and how old they get
_BY_SLIDERS = "By sliders"
_CSS = """
.gradio-container { width: 100% !important; max-width: 1360px !important; }
#overlay img { max-height: 68vh; }
#examples .grid-container { grid: auto / repeat(auto-fill, minmax(60px, 1fr)); }
#examples .grid-wrap { min-height: 0; padding-top: 2rem; }
#examples .thumbnail-item { height: auto; aspect-ratio: 1; }
#examples .caption-label { display: none; }
#tags .wrap { flex-direction: column; flex-wrap: nowrap; max-height: 62vh; overflow-y: auto; }
#tags label { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
"""
# How the page looks, for `Blocks.launch`: fonts of the reader's machine, none to be fetched.
LOOK = {
    "css": _CSS,
    "theme": gr.themes.Default(
        primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["monospace"]
    ),
}


def make_page(explainer, examples=(), name="model"):
    """The page on which a model is tried out.

    Args:
        explainer: `Explainer`.
        examples: Triples of a name, what `Explainer` takes as an image, and a small uint8 array
            of it. The first is shown when the page is opened. Defaults to none.
        name: What the model is called. Defaults to `"model"`.

    Returns:
        `gradio.Blocks`.
    """
    labels, own = explainer.label_names, explainer.thresholds
    with_csv = not any(";" in label for label in labels)  # as `patchpu predict`
    rules = ["The best three" if own is None else "By the model's thresholds", _BY_SLIDERS]
    starts = np.full(len(labels), 0.5) if own is None else own
    titles = labels
    if len(labels) > MOST_SLIDERS:
        starts, titles = [np.median(starts)], ["A tag is given from"]

    # === What the page does: each function returns the values of components ===

    def explain(source, image_name, view, rule, *values):
        """Another image."""
        try:
            explanation = explainer(source, image_name)
        except FileError as error:
            gr.Warning(html.escape(str(error)), title="This file was not taken", duration=None)
            return {upload: None}
        best = int(given_labels(explanation.found.scores)[0])
        return {
            state: explanation,
            upload: None,
            **show_place(explanation, best, view),
            **show_tags(explanation, best, rule, *values),
        }

    def show_place(explanation, label, view):
        if explanation is None:
            return {told: ""}
        picture, text = explainer.overlay(explanation, label, view)
        title = os.path.basename(explanation.found.name)
        return {
            overlay: gr.update(value=picture, label=title, alt_text=text),
            told: html.escape(text),
        }

    def show_tags(explanation, label, rule, *values):
        if explanation is None:
            return {download: gr.update()}
        thresholds = own
        if rule == _BY_SLIDERS:
            thresholds = np.broadcast_to(np.array(values, "float64"), len(labels))
        scores = explanation.found.scores
        given = given_labels(scores, thresholds).tolist()
        shown = {tags: gr.update(value=label, visible=True, **tag_list(scores, given, labels))}
        if with_csv:
            # A folder for each: the name is what the browser saves it as.
            path = os.path.join(tempfile.mkdtemp(dir=os.environ.get("GRADIO_TEMP_DIR")), "tags.csv")
            write_whole(path, csv_text(explanation.found, given, labels))
            shown[download] = gr.update(value=path, interactive=True)
        return shown

    def on_upload(path, *settings):
        return explain(path, os.path.basename(path), *settings)

    def on_example(event: gr.SelectData, *settings):
        return explain(examples[event.index][1], examples[event.index][0], *settings)

    def on_open(*settings):
        return explain(examples[0][1], examples[0][0], *settings)

    def on_slider(explanation, label, *values):
        return {rule: _BY_SLIDERS, **show_tags(explanation, label, _BY_SLIDERS, *values)}

    # === What stands on it ===

    with gr.Blocks(title=f"{name}: tags", analytics_enabled=False, delete_cache=_CACHE) as page:
        # Explanations are of one page each: users do not see those of others.
        state = gr.State(time_to_live=_CACHE[1])
        gr.HTML(
            f"<h1>{html.escape(name)}</h1>Give this model of {len(labels)} tags an image, then "
            "choose a tag to see where it is."
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=230):
                upload = gr.File(label="Your image", height=150, elem_id="upload")
                pictures = gr.Gallery(
                    [(small, os.path.basename(title)) for title, _, small in examples],
                    label="Or one of these",
                    format="png",
                    height="auto",
                    object_fit="cover",
                    allow_preview=False,
                    interactive=False,
                    buttons=[],
                    visible=bool(examples),
                    elem_id="examples",
                )
            with gr.Column(scale=5, min_width=300):
                overlay = gr.Image(
                    label="Image",
                    format="png",
                    interactive=False,
                    buttons=["fullscreen"],
                    elem_id="overlay",
                )
                told = gr.HTML(elem_id="told")
                view = gr.Radio(
                    [(text, key) for key, text in explainer.views.items()],
                    value=next(iter(explainer.views)),
                    label="Show",
                    visible=len(explainer.views) > 1,
                    elem_id="view",
                )
            with gr.Column(scale=4, min_width=300):
                numbers = [(label, number) for number, label in enumerate(labels)]
                tags = gr.Radio(numbers, visible=False, elem_id="tags")
                download = gr.DownloadButton(
                    "Download CSV", interactive=False, visible=with_csv, elem_id="download"
                )
                with gr.Accordion("Which tags are given", open=False, elem_id="thresholds"):
                    rule = gr.Radio(rules, value=rules[0], show_label=False, elem_id="rule")
                    with gr.Row():
                        sliders = [
                            gr.Slider(0, 1, float(start), step=0.001, label=title, min_width=170)
                            for title, start in zip(titles, starts)
                        ]

        # Of uses that follow each other quickly the last counts.
        hidden = {
            "api_visibility": "private",
            "show_progress": "hidden",
            "trigger_mode": "always_last",
        }
        asking = {"concurrency_limit": 1, "concurrency_id": "model", **hidden}
        light = {"concurrency_limit": 8, **hidden}
        settings = [view, rule, *sliders]
        everything = [state, upload, overlay, told, tags, download]
        upload.upload(on_upload, [upload, *settings], everything, **asking)
        if examples:
            pictures.select(on_example, settings, everything, **asking)
            page.load(on_open, settings, everything, **asking)
        gr.on([tags.input, view.input], show_place, [state, tags, view], [overlay, told], **asking)
        given = [state, tags]
        rule.input(show_tags, [*given, rule, *sliders], [tags, download], **light)
        moves = [slider.input for slider in sliders]
        gr.on(moves, on_slider, [*given, *sliders], [tags, download, rule], **light)
    return page


def tag_list(scores, given, labels):
    """Title and choices of the list of tags: those given first, the rest by falling score.

    Args:
        scores: `(L,)`.
        given: Numbers of the labels that are given, by falling score.
        labels: L strings.

    Returns:
        Dict of `label`, a string, and `choices`, pairs of a text and the number of a label.
    """
    names = ", ".join(labels[label] for label in given)
    others = [label for label in np.argsort(-scores, kind="stable").tolist() if label not in given]
    choices = [
        (f"{'✓ ' * (label in given)}{labels[label]} · {100 * scores[label]:.1f} %", label)
        for label in [*given, *others]
    ]
    return {"label": f"Tags: {names}" if names else "No tag is given", "choices": choices}
