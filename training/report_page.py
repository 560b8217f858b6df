"""An evaluation as one page: the table, and questions with their answers as pictures.

Owns: the HTML and the pictures in it. Does not own: the numbers (`evaluate`). The page needs
nothing from outside: pictures are data URIs, there is no script.
"""

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from encoder.config import Extent
from training.baselines import frames_of
from training.evaluate import COLUMNS, Evaluation, table
from training.manifest import Item
from training.reading import read_largest
from training.scores import Judged

SIDE_PX = 112
ANSWERS = 5
_READ_EXTENT = Extent(32, SIDE_PX, SIDE_PX)
_JPEG_QUALITY = 80

_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 70em; color: #222; }
table { border-collapse: collapse; } td, th { padding: .2em .6em; text-align: right; }
th { border-bottom: 1px solid #888; } td:nth-child(-n+2), th:nth-child(-n+2) { text-align: left; }
.level { color: #777; } .row { display: flex; gap: 6px; align-items: flex-start; margin: 4px 0; }
.name { width: 9em; } figure { margin: 0; width: 116px; font-size: 11px; overflow-wrap: anywhere; }
img { display: block; border: 2px solid #bbb; background: #000; }
.hit img { border-color: #1a7f37; } .miss img { border-color: #cf222e; }
"""


def page(evaluations: Sequence[Evaluation], *, samples: int = 4, seed: int = 0) -> str:
    """Return the page: `samples` questions of every task, drawn by the seed, as each encoder
    answers them.

    Items are read again for their pictures; raises as `read_largest` does where one is gone.
    """
    pictures = _Pictures()
    sections = [
        _section(place, evaluations, pictures, samples=samples, seed=seed)
        for place in range(len(evaluations[0].judged))
    ]
    title = "Similis: retrieval scores"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body>\n<h1>{title}</h1>\n{_table(evaluations)}\n"
        f"{_notes(evaluations)}\n" + "\n".join(sections) + "\n</body></html>\n"
    )


def _table(evaluations: Sequence[Evaluation]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in COLUMNS)
    rows = [
        f"<tr{_level_class(row)}>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in table(evaluations)
    ]
    return f"<table><tr>{head}</tr>\n" + "\n".join(rows) + "</table>"


def _level_class(row: Sequence[str]) -> str:
    return ' class="level"' if row[1].startswith("(") else ""


def _notes(evaluations: Sequence[Evaluation]) -> str:
    """Say what the table leaves out."""
    lines = [
        "Cosine, the query's own patient left out; mAP@10 is divided by min(hits there are, 10). "
        "95 %: bootstrap over patients, or over items where the patient is unknown.",
        *(f"{one.name} is not scored: {one.reason}." for one in evaluations[0].not_scorable),
        *(
            f"{each.encoder} ({each.embedded.model_id}): {len(each.embedded.unreadable)} items "
            "could not be read and are left out."
            for each in evaluations
        ),
    ]
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def _section(
    place: int,
    evaluations: Sequence[Evaluation],
    pictures: "_Pictures",
    *,
    samples: int,
    seed: int,
) -> str:
    """Show some questions of one task with the answers of every encoder below each other."""
    first = evaluations[0].judged[place]
    count = min(samples, len(first.queries))
    drawn = np.random.default_rng(seed).choice(len(first.queries), count, replace=False)
    parts = [f"<h2>{escape(first.task.name)}</h2><p>{escape(first.task.rule)}</p>"]
    for question in sorted(drawn):
        for each in evaluations:
            items, judged = each.embedded.items, each.judged[place]
            parts.append(_answers(each.encoder, items, judged, int(question), pictures))
        parts.append("<hr>")
    return "\n".join(parts)


def _answers(
    encoder: str, items: Sequence[Item], judged: Judged, question: int, pictures: "_Pictures"
) -> str:
    classes, row = judged.task.classes, int(judged.queries[question])
    figures = [_figure(items[row], str(classes[row]), "query", pictures)]
    answers = zip(judged.top[question], judged.hits[question], strict=True)
    for answer, hit in list(answers)[:ANSWERS]:
        if answer >= 0:
            kind = "hit" if hit else "miss"
            figures.append(_figure(items[answer], str(classes[answer]), kind, pictures))
    name = f'<div class="name">{escape(encoder)}</div>'
    return f'<div class="row">{name}{"".join(figures)}</div>'


def _figure(item: Item, label: str, kind: str, pictures: "_Pictures") -> str:
    return (
        f'<figure class="{kind}"><img src="{pictures.uri(item)}" alt="{escape(item.path)}" '
        f'title="{escape(item.path)}" width="{SIDE_PX}" height="{SIDE_PX}">'
        f"<figcaption>{kind}: {escape(label)}</figcaption></figure>"
    )


class _Pictures:
    """Makes the picture of an item once, as a data URI of its middle frame."""

    def __init__(self) -> None:
        self._made: dict[str, str] = {}

    def uri(self, item: Item) -> str:
        if item.path not in self._made:
            self._made[item.path] = _data_uri(item)
        return self._made[item.path]


def _data_uri(item: Item) -> str:
    frames = frames_of(read_largest(item, _READ_EXTENT), SIDE_PX)
    middle = frames[len(frames) // 2].transpose(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray((middle * 255).round().astype(np.uint8)).save(
        file, "JPEG", quality=_JPEG_QUALITY
    )
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
