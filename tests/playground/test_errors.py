"""What goes wrong is said in place, in the server's words; and streams are read however they are cut."""

import json
from pathlib import Path

import pytest

from tests.playground.conftest import CAT
from tests.playground.fake import BASE, Fake, Script
from tests.playground.visitor import Visitor, chromium

chromium()

DROP_TEXT = """() => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File(["no picture"], "notes.txt", { type: "text/plain" }));
  document.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
}"""
WORDS = "num_inference_steps: the model's sampler makes 1 to 4 steps."


def error(visitor: Visitor) -> str:
    """What is said to be wrong."""
    alert = visitor.page.get_by_role("alert")
    alert.wait_for()
    return alert.text_content() or ""


def test_a_refusal_stands_in_the_servers_words_at_its_field(visitor: Visitor, fake: Fake) -> None:
    fake.api.refusal = 422, {"message": WORDS, "param": "num_inference_steps", "code": "steps_unavailable"}
    visitor.choose(CAT)
    visitor.ask("make it night")
    assert error(visitor) == WORDS
    field = visitor.by_label("Steps")
    assert field.is_visible()
    assert field.evaluate("it => it === document.activeElement && it.ariaInvalid") == "true"
    visitor.looked_at("error")
    fake.api.refusal = None
    visitor.ask("make it night")
    visitor.result()
    assert visitor.page.get_by_role("alert").is_hidden()
    assert visitor.page.locator("[aria-invalid]").count() == 0


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([{"error": {"message": "The edit failed.", "code": "edit_failed"}}], "The edit failed."),
        ([{"type": "image_edit.progress", "step": 1, "steps": 4, "index": 0}],
         "The connection broke before the picture was done."),
    ],
)  # fmt: skip
def test_a_stream_that_fails_is_told(visitor: Visitor, fake: Fake, script: Script, expected: str) -> None:
    fake.api.script = script
    visitor.choose(CAT)
    visitor.ask("make it night")
    assert error(visitor) == expected
    assert visitor.page.locator("#running").is_hidden()
    assert visitor.page.locator("#before").is_visible()


@pytest.mark.parametrize("prompt", ["", "  "])
def test_a_sentence_is_asked_for(visitor: Visitor, prompt: str) -> None:
    visitor.choose(CAT)
    visitor.ask(prompt)
    assert error(visitor) == "Say what to change first."
    assert visitor.by_label("What to change").evaluate("it => it === document.activeElement")
    assert not [one for one in visitor.requests if one.endswith("/v1/images/edits")]
    visitor.ask("make it night")
    visitor.result()


def test_what_lacks_is_told(visitor: Visitor, fake: Fake, tmp_path: Path) -> None:
    visitor.ask("make it night")
    assert error(visitor) == "Choose a picture first."
    (tmp_path / "notes.png").write_text("no picture")
    visitor.page.locator("#files").set_input_files(tmp_path / "notes.png")
    visitor.page.get_by_text("notes.png is not a picture that this browser can show").wait_for()
    visitor.page.evaluate(DROP_TEXT)
    visitor.page.get_by_text("notes.txt is not a picture that this browser can show").wait_for()
    fake.api.models = [BASE | {"max_images": 2}]
    visitor.page.reload()
    visitor.page.get_by_text("Pictures (up to 2)").wait_for()
    visitor.page.locator("#files").set_input_files([CAT, CAT, CAT])
    assert error(visitor) == "This model takes at most 2 pictures in an edit."


def test_a_key_is_asked_for_where_one_is_needed(visitor: Visitor, fake: Fake) -> None:
    assert visitor.by_label("API key").is_hidden()
    fake.api.key = "sesame"
    visitor.page.reload()
    visitor.by_label("API key").wait_for()
    assert visitor.page.get_by_role("alert").is_hidden(), "nothing is wrong yet"
    visitor.looked_at("key")
    visitor.by_label("API key").fill("wrong")
    visitor.by_label("API key").press("Tab")
    assert error(visitor) == "A valid bearer token is needed."
    visitor.by_label("API key").fill("sesame")
    visitor.by_label("API key").press("Enter")
    visitor.page.get_by_text("Ready").wait_for()
    visitor.choose(CAT)
    visitor.ask("make it night")
    visitor.result()
    assert fake.api.asked[0].key == "Bearer sesame"
    visitor.button("Copy as curl").click()
    visitor.said("Copied")
    copied = visitor.page.evaluate("navigator.clipboard.readText()")
    assert "$TRITOUCH_API_KEY" in copied
    assert "sesame" not in copied
    kept = visitor.page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])")
    assert "sesame" not in kept


def test_events_are_read_however_the_stream_is_cut(visitor: Visitor) -> None:
    """Each end of line that the format knows, several lines of data, comments and other fields; cut at every place."""
    stream = (
        ': hello\n\nevent: a\ndata: {"one":\ndata: "é"}\n\n'
        'data:{"two": 2}\r\nid: 7\r\n\r\n: ping\r\n\r\n'
        'data: {"three": 3}\r\r\ndata: {"four": 4}\n\ndata: {"cut off": '
    )
    read = """async (stream) => {
      const { events, texts } = await import("/playground/sse.js");
      const bytes = new TextEncoder().encode(stream), found = new Set();
      for (let cut = 0; cut <= bytes.length; cut += 1) {
        const pieces = [bytes.slice(0, cut), bytes.slice(cut)], list = [];
        const body = new ReadableStream({ pull(to) { pieces.length ? to.enqueue(pieces.shift()) : to.close(); } });
        for await (const event of events(texts(body))) list.push(event);
        found.add(JSON.stringify(list));
      }
      return [...found];
    }"""
    (found,) = visitor.page.evaluate(read, stream)
    assert json.loads(found) == [{"one": "é"}, {"two": 2}, {"three": 3}, {"four": 4}]
