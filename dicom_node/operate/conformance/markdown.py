"""A document in Markdown: numbered sections, tables, and a list of contents. Knows no DICOM."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

NONE = "—"


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it: paragraphs, tables, sections."""

    title: str
    content: tuple[str | Section, ...]


def section(title: str, *content: str | Section) -> Section:
    """Return a section; empty content is left out."""
    return Section(title, tuple(part for part in content if part))


def prose(text: str) -> str:
    """Return paragraphs without the indentation and the line ends that the source gives them."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(textwrap.fill(each, 100, break_on_hyphens=False) for each in paragraphs)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; an empty cell becomes a dash."""
    lines = [_row(columns), _row(["---"] * len(columns)), *(_row(row) for row in rows)]
    return "\n".join(lines)


def code(value: object) -> str:
    """Return a value as a name of the product or of a protocol."""
    return f"`{value}`"


def numbered(sections: Iterable[Section], numbers: Iterable[object]) -> Iterator[str]:
    """Yield the parts of sections under the numbers given to them."""
    for each, number in zip(sections, numbers, strict=False):
        yield from _parts(each, str(number))


def contents(sections: Iterable[Section], numbers: Iterable[object]) -> str:
    """Return the list of sections and of those right below them."""
    lines = []
    for each, number in zip(sections, numbers, strict=False):
        lines.append(f"- {number} {each.title}")
        lines += [f"  - {number}.{n} {below.title}" for n, below in _below(each)]
    return "\n".join(lines)


def _parts(each: Section, number: str) -> Iterator[str]:
    depth = number.count(".") + 2
    yield f"{'#' * depth} {number} {each.title}"
    below = dict(_below(each))
    yield from (part for part in each.content if isinstance(part, str))
    for n, inner in below.items():
        yield from _parts(inner, f"{number}.{n}")


def _below(each: Section) -> Iterator[tuple[int, Section]]:
    return enumerate((part for part in each.content if isinstance(part, Section)), start=1)


def _row(cells: Sequence[object]) -> str:
    texts = (str(cell).replace("|", "\\|").replace("\n", " ").strip() or NONE for cell in cells)
    return f"| {' | '.join(texts)} |"
