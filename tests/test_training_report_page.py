import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from evaluations import write_manifest
from PIL import Image

from training.baselines import Pixels
from training.evaluate import Evaluation, embed_items, evaluate
from training.manifest import read_items
from training.report_page import ANSWERS, SIDE_PX, page

VOID = {"meta", "img", "hr"}


class Strict(HTMLParser):
    """Collects pictures and checks that every element is closed where it should be."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.pictures: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "figure":
            self.kind = values["class"] or ""
        if tag == "img":
            self.pictures.append((self.kind, values["src"] or ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    items = read_items(write_manifest(tmp_path_factory.mktemp("made"), per_class=9))
    return evaluate("pixels", embed_items(items, Pixels(), lambda: None))


def parsed(text: str) -> Strict:
    parser = Strict()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


def test_the_page_is_whole_and_needs_nothing_from_outside(found: Evaluation) -> None:
    text = page([found], samples=2)

    assert len(parsed(text).pictures) == 2 * (1 + ANSWERS)
    assert not re.search(r"https?:|<script|<link|url\(|@import", text)
    assert all(src.startswith("data:image/jpeg;base64,") for _, src in parsed(text).pictures)


def test_hits_are_marked_as_the_scores_count_them(found: Evaluation) -> None:
    kinds = [kind for kind, _ in parsed(page([found], samples=9)).pictures]

    (judged,) = found.judged
    expected = [
        ["query", *("hit" if hit else "miss" for hit in hits[:ANSWERS])] for hits in judged.hits
    ]
    assert kinds == [kind for row in expected for kind in row]
    assert {"hit", "miss"} <= set(kinds) | {"miss"}


def test_a_picture_shows_its_item(found: Evaluation) -> None:
    text = page([found], samples=9)
    (judged,) = found.judged
    first = found.embedded.items[int(judged.queries[0])]

    _, uri = parsed(text).pictures[0]

    shown = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert shown.size == (SIDE_PX, SIDE_PX)
    original = Image.open(first.files[0]).resize(shown.size, Image.Resampling.BILINEAR)
    correlation = np.corrcoef(np.asarray(shown.convert("L")).ravel(), np.asarray(original).ravel())[
        0, 1
    ]
    assert correlation > 0.8


def test_the_seed_draws_the_questions(found: Evaluation) -> None:
    assert page([found], samples=2, seed=1) == page([found], samples=2, seed=1)
    assert page([found], samples=2, seed=1) != page([found], samples=2, seed=2)


def test_every_encoder_answers_the_same_questions(found: Evaluation) -> None:
    pictures = parsed(page([found, replace(found, encoder="again")], samples=2)).pictures

    rows = [pictures[start : start + 6] for start in range(0, 24, 6)]
    assert rows[0] == rows[1] != rows[2] == rows[3]


def test_what_a_manifest_says_cannot_become_markup(found: Evaluation) -> None:
    evil = '<script>alert("1")</script>'
    (judged,) = found.judged
    task = replace(judged.task, name=evil, classes=np.full(len(judged.task.classes), evil))

    text = page([replace(found, encoder=evil, judged=(replace(judged, task=task),))], samples=1)

    assert "<script" not in text
    assert "&lt;script&gt;" in text
