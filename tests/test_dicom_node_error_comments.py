"""Error Comment has room for 64 characters (PS3.7 Annex C): whatever is said must fit."""

import ast
from pathlib import Path

import pytest

from dicom_node.receive.header import PARSE_ERRORS
from index.attributes import ATTRIBUTES
from index.criteria import TEXT_LENGTH

LENGTH = 64
SOURCES = [*Path("dicom_node/answer").glob("*.py"), *Path("dicom_node/receive").glob("*.py"),
           Path("dicom_node/listener.py"), Path("index/criteria.py")]  # fmt: skip
# Who says something, and which argument it is.
SAYING = {
    "failure": 1, "_explain": 1, "QueryRefused": 0, "NotUnderstood": 0, "BadIdentity": 0,
    "OutOfResources": 0, "NowhereToAnswer": 0, "BadQuery": 1,
}  # fmt: skip
KEYWORD = max((attribute.keyword for attribute in ATTRIBUTES), key=len)
# The longest that stands in for a part of a sentence.
LONGEST = {
    "type(error).__name__": max((error.__name__ for error in PARSE_ERRORS), key=len),
    "error.strerror": "Too many open files in system",
    "free >> 20": "2047",
    "keyword": KEYWORD,
    "element.name": "Query Series Instance UID",
    "element.vr": "UI",
    "private.MAXIMUM_RESULTS.name": "Maximum Results",
    "private.GROUP": "0099",
    "private.CREATOR": "SIMILIS 01",
    "bad.field": KEYWORD,
    "bad.reason": "",  # checked where it is raised
    "', '.join(Scope)": "ALL, OTHER_PATIENTS, SAME_MODALITY, SAME_BODYPART",
    "', '.join(Effort).upper()": "FAST, NORMAL, EXACT",
    "_MAXIMUM_UIDS": "500",
    "_MAXIMUM_VALUES": "500",
    "TEXT_LENGTH": str(TEXT_LENGTH),
    "attribute.vr": "UI",
    "what": "body part",
    "self._what": "embedding process",
    "len(found)": "1000",
    "title": "S" * 16,
    "'date' if vr == 'DA' else 'time'": "date",
}


def sentences(path: Path) -> list[tuple[str, int]]:
    """Return what a module says in a status, at its longest, each with its line."""
    source = path.read_text()
    tree = ast.parse(source)
    is_said = any(f"{who}(reason" in source for who in SAYING)  # else it goes to the log
    said: list[tuple[ast.expr, str, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            position = SAYING.get(node.func.id, len(node.args))
            before = f"{KEYWORD}: " if node.func.id == "BadQuery" else ""
            said += [(each, before, node.lineno) for each in node.args[position : position + 1]]
        elif is_said and isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "reason":
            said.append((node.value, "", node.lineno))
    return [
        (before + longest(each), line)
        for each, before, line in said
        if isinstance(each, ast.JoinedStr) or (isinstance(each, ast.Constant) and each.value)
    ]


def longest(said: ast.expr) -> str:
    if isinstance(said, ast.Constant):
        return str(said.value)
    if isinstance(said, ast.FormattedValue):
        return LONGEST[ast.unparse(said.value)]
    assert isinstance(said, ast.JoinedStr)
    return "".join(longest(part) for part in said.values)


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_every_comment_fits(path: Path) -> None:
    assert [said for said in sentences(path) if len(said[0]) > LENGTH] == []


def test_what_is_looked_for_is_found() -> None:
    said = {sentence for path in SOURCES for sentence, _ in sentences(path)}

    assert "the catalogue cannot be read, ask again" in said
    assert f"{KEYWORD} is missing" in said
    assert len(said) > 40
