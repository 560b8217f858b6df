"""Sentences of a hospital's own reports: a folder of text files, tables and structured reports.

Owns: finding and reading them, which of their words are taken. Does not own: taking names of people
out, which the hospital has to do, how a PDF is read (`pdf_text`). Nothing of a report is logged.

    *.txt           one report, in UTF-8
    *.csv           a report a row: column `text`, and `study_instance_uid` where it is known
    DICOM files     structured reports: values of TEXT and CODE items (PS3.3 section C.17.3);
                    encapsulated PDF (PS3.3 section A.45.1): its text, not what is a picture in it
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.misc import is_dicom
from pydicom.uid import EncapsulatedCDAStorage, EncapsulatedPDFStorage

from encoder.headers import READ_ERRORS, quiet, raise_if_missing
from training.errors import BadManifest
from training.facts import sentences
from training.pdf_text import MAX_BYTES, text_of

MAX_DEPTH = 64  # of a tree of content: deeper ones are no reports
_UID, _TEXT = "study_instance_uid", "text"
_BLANK_LINE = re.compile(r"\n\s*\n")


@dataclass(frozen=True, slots=True)
class Report:
    """The sentences of one report, and its study where that is known."""

    study_instance_uid: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reports:
    """All reports below a folder, and lines "path: reason" of documents that could not be read."""

    reports: tuple[Report, ...]
    unreadable: tuple[str, ...]


def read_reports(folder: Path) -> Reports:
    """Read every report below a folder, in the order of paths; those without a sentence are left.

    Raises BadManifest, naming the file and the line, for one that cannot be read, and where the
    folder holds none. An encapsulated document that cannot be read is counted: others made it.
    """
    found: list[Report] = []
    unreadable: list[str] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            found += [report for report in _reports(path) if report.sentences]
        except _Unreadable as error:
            unreadable.append(f"{path.relative_to(folder)}: {error}")
    if not found:
        reason = "it holds no report: text files, tables, DICOM SR or encapsulated PDF"
        raise BadManifest(folder, 0, "; ".join([reason, *unreadable[:1]]))
    return Reports(tuple(found), tuple(unreadable))


class _Unreadable(Exception):
    """A document within a DICOM file that gives no text; says why in a word or two."""


def _reports(path: Path) -> Iterator[Report]:
    suffix = path.suffix.lower()
    if suffix == ".txt":
        yield Report("", _cut(_decoded(path)))
    elif suffix == ".csv":
        yield from _rows(path)
    elif is_dicom(path):
        yield _dicom(path)


def _decoded(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadManifest(path, 0, "it is not UTF-8") from error


def _rows(path: Path) -> Iterator[Report]:
    reader = csv.DictReader(_decoded(path).splitlines(keepends=True), strict=True)
    try:
        if _TEXT not in (reader.fieldnames or ()):
            raise BadManifest(path, 1, f"the column {_TEXT} is missing")
        for row in reader:
            if (text := row[_TEXT]) is None:
                raise BadManifest(path, reader.line_num, f"it has no field {_TEXT}")
            yield Report((row.get(_UID) or "").strip(), _cut(text))
    except csv.Error as error:
        raise BadManifest(path, reader.line_num, f"this is no CSV ({error})") from error


def _dicom(path: Path) -> Report:
    """Read a structured report or a document; other objects have no content and so no sentence."""
    with quiet():
        try:
            dataset = dcmread(path, stop_before_pixels=True, defer_size=MAX_BYTES)
            kind = dataset.get("SOPClassUID")
            if kind == EncapsulatedCDAStorage:
                raise _Unreadable("the text of a CDA document is not read")
            said = [part for text in _said(dataset) for part in _cut(text)]
            if kind == EncapsulatedPDFStorage:
                said = list(_cut(_of_pdf(path, dataset)))
            return Report(str(dataset.get("StudyInstanceUID") or ""), tuple(dict.fromkeys(said)))
        except READ_ERRORS as error:
            raise_if_missing(error)
            raise BadManifest(path, 0, "this DICOM file is damaged") from error


def _of_pdf(path: Path, dataset: Dataset) -> str:
    """Return the text of an encapsulated PDF, which is not even loaded where it is too large."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES} bytes")
        text = text_of(bytes(dataset.get("EncapsulatedDocument") or b""))
    except ValueError as error:
        raise _Unreadable(str(error)) from error
    if not text.strip():
        raise _Unreadable("the PDF has no text: its pages are pictures")
    return text


def _said(root: Dataset) -> Iterator[str]:
    """Give the texts of a tree in its order: TEXT as it is, CODE as "name: value"."""
    waiting = [(root, 0)]
    while waiting:
        item, depth = waiting.pop()
        kind = item.get("ValueType")
        if kind == "TEXT":
            yield str(item.get("TextValue") or "")
        elif kind == "CODE" and (value := _meaning(item, "ConceptCodeSequence")):
            name = _meaning(item, "ConceptNameCodeSequence")
            yield f"{name}: {value}" if name else value
        if depth < MAX_DEPTH:
            children = item.get("ContentSequence") or []
            waiting += [(child, depth + 1) for child in reversed(children)]


def _meaning(item: Dataset, keyword: str) -> str:
    codes = item.get(keyword) or [Dataset()]
    return str(codes[0].get("CodeMeaning") or "")


def _cut(text: str) -> tuple[str, ...]:
    """Cut a text into sentences; a line that merely wraps does not end one."""
    paragraphs = _BLANK_LINE.split(text.replace("\r\n", "\n"))
    return tuple(part for each in paragraphs for part in sentences(" ".join(each.split())))
