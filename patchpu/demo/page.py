"""The page of `patchpu demo`, by Gradio, and its server."""

import base64
import html
import io
import os
import pathlib
import socket
import tempfile

import numpy as np

from keras_patchpu.tagging import given_labels
from keras_patchpu.utils.validation import FileError
from keras_patchpu.utils.whole_files import write_whole
from patchpu.prediction.rows import csv_text

# With more labels than these one slider stands for all.
MOST_SLIDERS = 12
_MAX_FILE_SIZE = "100mb"
_SESSIONS = 200
_CACHE = (600, 3600)  # seconds: how often old files are looked for, and how old they get
# Nothing is fetched from elsewhere, whatever Gradio's templates name.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; "
    "frame-ancestors 'self'"
)
_CSS = pathlib.Path(__file__).with_name("page.css")
# The buttons of lists made here: which one was chosen goes to the server as `number`.
_ON_CHANGE = """
element.addEventListener('change', (event) => {
  trigger('select', {number: Number(event.target.value)});
  document.getElementById('overlay').scrollIntoView({block: 'nearest', behavior: 'smooth'});
});
"""
_ON_CLICK = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (button) trigger('select', {number: Number(button.value)});
});
"""


def make_page(explainer, examples=(), name="model"):
    """The page as Gradio's Blocks.

    Args:
        explainer: `Explainer`.
        examples: Triples of a name, what `Explainer` takes as an image, and a small uint8 array
            of it. The first is shown when the page is opened. Defaults to none.
        name: What the model is called. Defaults to `"model"`.

    Returns:
        `gradio.Blocks`.
    """
    import gradio as gr

    labels, own = explainer.label_names, explainer.thresholds
    with_csv = not any(";" in label for label in labels)  # as `patchpu predict`
    one_slider = len(labels) > MOST_SLIDERS
    rules = [
        "The best three" if own is None else "By the model's thresholds",
        "By the slider below" if one_slider else "By the sliders below",
    ]
    starts = [0.5] * len(labels) if own is None else [float(value) for value in own]
    starts = [float(np.median(starts))] if one_slider else starts

    # === What the page does: each function returns the values of components ===

    def explain(source, image_name, view, rule_chosen, values):
        """Another image."""
        try:
            explanation = explainer(source, image_name)
        except FileError as error:
            empty = {overlay: None, told: "", tags: "", state: None}
            empty[download] = gr.update(value=None, interactive=False)
            return {message: _message(error), **empty}
        best = int(given_labels(explanation.found.scores)[0])
        return {
            state: explanation,
            chosen: best,
            message: "",
            **show_place(explanation, best, view),
            **show_tags(explanation, best, rule_chosen, *values),
        }

    def show_place(explanation, label, view):
        if explanation is None:
            return {overlay: None, told: ""}
        picture, text = explainer.overlay(explanation, label, view)
        return {overlay: gr.update(value=picture, alt_text=text), told: html.escape(text)}

    def show_tags(explanation, label, rule_chosen, *values):
        if explanation is None:
            return {tags: ""}
        thresholds = own
        if rule_chosen == rules[1]:
            thresholds = np.broadcast_to(np.array(values, "float64"), len(labels))
        scores = explanation.found.scores
        given = given_labels(scores, thresholds)
        shown = {tags: tags_html(scores, given, thresholds, label, labels)}
        if with_csv:
            # A folder for each: the name is what the browser saves it as.
            path = os.path.join(tempfile.mkdtemp(dir=os.environ.get("GRADIO_TEMP_DIR")), "tags.csv")
            write_whole(path, csv_text(explanation.found, given, labels))
            shown[download] = gr.update(value=path, interactive=True)
        return shown

    def on_upload(path, view, rule_chosen, *values):
        return explain(path, os.path.basename(path), view, rule_chosen, values)

    def on_example(event: gr.EventData, view, rule_chosen, *values):
        image_name, source, _ = examples[int(event.number)]
        return {upload: None, **explain(source, image_name, view, rule_chosen, values)}

    def on_open(view, rule_chosen, *values):
        image_name, source, _ = examples[0]
        return explain(source, image_name, view, rule_chosen, values)

    def on_tag(event: gr.EventData, explanation, view):
        label = int(event.number)
        return {chosen: label, **show_place(explanation, label, view)}

    def on_rule(explanation, label, rule_chosen, *values):
        values = values if rule_chosen == rules[1] else starts
        return {**dict(zip(sliders, values)), **show_tags(explanation, label, rule_chosen, *values)}

    def on_slider(explanation, label, *values):
        return {rule: rules[1], **show_tags(explanation, label, rules[1], *values)}

    # === What stands on it ===

    with gr.Blocks(
        title=f"{name}: tags", analytics_enabled=False, delete_cache=_CACHE, fill_width=True
    ) as page:
        page.state_session_capacity = _SESSIONS
        # Explanations are of one page each: users do not see those of others.
        state, chosen = gr.State(time_to_live=_CACHE[1]), gr.State(0)
        gr.HTML(_head(name, labels))
        with gr.Row():
            with gr.Column(scale=2, min_width=230):
                upload = gr.File(label="Your image", height=130, elem_id="upload")
                message = gr.HTML(elem_id="message")
                pictures = gr.HTML(
                    _examples_html(examples), js_on_load=_ON_CLICK, visible=bool(examples)
                )
            with gr.Column(scale=5, min_width=300):
                overlay = gr.Image(
                    show_label=False,
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
                tags = gr.HTML(js_on_load=_ON_CHANGE, elem_id="tags")
                download = gr.DownloadButton(
                    "Download CSV", interactive=False, visible=with_csv, elem_id="download"
                )
                with gr.Accordion("Which tags are given", open=False, elem_id="thresholds"):
                    rule = gr.Radio(rules, value=rules[0], show_label=False, elem_id="rule")
                    titles = ["A tag is given from"] if one_slider else labels
                    with gr.Row():
                        sliders = [
                            gr.Slider(0, 1, start, step=0.001, label=title, min_width=170)
                            for title, start in zip(titles, starts)
                        ]

        hidden = {"api_visibility": "private", "show_progress": "hidden"}
        asking = {"concurrency_limit": 1, "concurrency_id": "model", **hidden}
        everything = [state, chosen, message, overlay, told, tags, download, upload]
        place = [overlay, told]
        upload.clear(lambda: "", None, message, **hidden)
        upload.upload(on_upload, [upload, view, rule, *sliders], everything, **asking)
        if examples:
            pictures.select(on_example, [view, rule, *sliders], everything, **asking)
            page.load(on_open, [view, rule, *sliders], everything, **asking)
        tags.select(on_tag, [state, view], [chosen, *place], **asking)
        view.input(show_place, [state, chosen, view], place, **asking)
        light = {"concurrency_limit": 8, "trigger_mode": "always_last", **hidden}
        given = [tags, download]
        rule.input(on_rule, [state, chosen, rule, *sliders], [*given, *sliders], **light)
        # One event of all sliders: of those that follow each other quickly the last counts.
        moves = [slider.input for slider in sliders]
        gr.on(moves, on_slider, [state, chosen, *sliders], [*given, rule], **light)
    return page


def tags_html(scores, given, thresholds, chosen, labels):
    """The list of tags: bars of their scores, the given ones first in words.

    Args:
        scores: `(L,)`.
        given: Numbers of the labels that are given.
        thresholds: L numbers to mark on the bars, or `None`.
        chosen: Number of the label that is shown.
        labels: L strings.
    """
    names = ", ".join(f"<b>{html.escape(labels[label])}</b>" for label in given)
    rows = []
    for label in np.argsort(-scores, kind="stable").tolist():
        mark = ""
        if thresholds is not None:
            place = 100 * thresholds[label]
            mark = f'<u style="left:{place:.2f}%" title="given from {place:.0f} %"></u>'
        rows.append(
            f'<label class="{"given" if label in given else "other"}">'
            f'<input type="radio" name="tag" value="{label}"{" checked" * (label == chosen)}>'
            f"<span>{html.escape(labels[label])}</span><em>{100 * scores[label]:.1f} %</em>"
            f'<div><i style="width:{100 * scores[label]:.2f}%"></i>{mark}</div></label>'
        )
    return (
        f'<p id="given">{"Tags: " + names if names else "No tag is given."}</p>'
        f'<fieldset aria-label="Show where a tag is">{"".join(rows)}</fieldset>'
    )


def _examples_html(examples):
    buttons = []
    for number, (name, _, small) in enumerate(examples):
        title = html.escape(os.path.basename(name))
        buttons.append(
            f'<button value="{number}" title="{title}"><img src="{_data_url(small)}" alt="{title}">'
            "</button>"
        )
    return f'<p>Or one of these</p><div class="examples">{"".join(buttons)}</div>'


def _data_url(pixels):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _head(name, labels):
    tags = f"{len(labels)} tag{'s' * (len(labels) != 1)}"
    return (
        f"<h1>{html.escape(name)}</h1><p>A model of {tags}. Give it an image, then click a tag "
        "to see where it is.</p>"
    )


def _message(error):
    text = html.escape(" ".join(str(error).split()))
    return f'<p role="alert">This file was not taken. {text}</p>'


# === The server ===


def make_server(page, listening):
    """The server of a page.

    Args:
        page: `gradio.Blocks`.
        listening: Socket that is listened on, see `listen`.

    Returns:
        `uvicorn.Server`; its `run(sockets=[listening])` ends by Ctrl-C, SIGTERM, or once its
        `should_exit` is true.
    """
    import fastapi
    import gradio as gr
    import uvicorn

    app = gr.mount_gradio_app(
        fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page,
        path="/",
        footer_links=[],
        run_history=False,
        max_file_size=_MAX_FILE_SIZE,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        theme=gr.themes.Default(
            primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["monospace"]
        ),
        css_paths=[_CSS],
    )
    app.add_middleware(_WithPolicy)
    # Pages that are open keep a connection: it is cut off after a second.
    return uvicorn.Server(
        uvicorn.Config(app, log_config=None, log_level="warning", timeout_graceful_shutdown=1)
    )


def listen(host, port):
    """A socket that listens on a host (name or address) and a port (0: any that is free).

    Raises:
        OSError: They cannot be had.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise OSError(
            f"cannot listen on {host}, port {port}: {error.strerror}. Give another --host or --port"
        ) from error


class _WithPolicy:
    """Adds the content security policy to every answer."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        async def send_with_policy(message):
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", _POLICY.encode()),
                ]
            await send(message)

        await self._app(scope, receive, send_with_policy)
