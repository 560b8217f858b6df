"""What a matching key asks of a column: attribute matching (PS3.4 C.2.2.2), as SQL.

Which rule holds for a value representation is one table. Knows no query level and runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, and_, func, literal, or_

from index.attributes import TEXT_LENGTH, Attribute, Level
from index.errors import BadQuery
from index.models import Instance, Series, Study

_TABLES: dict[Level, Any] = {
    Level.PATIENT: Study, Level.STUDY: Study, Level.SERIES: Series, Level.IMAGE: Instance,
}  # fmt: skip
_MAXIMUM_VALUES = 500  # of a list; one statement takes so many
# PS3.4 C.2.2.2.4: the value representations whose values may hold wildcards.
_WILDCARD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_WILDCARDS = str.maketrans({"%": r"\%", "_": r"\_", "\\": r"\\", "*": "%", "?": "_"})
_FORMS = {
    "DA": re.compile(r"[0-9]{8}"),
    "TM": re.compile(r"[0-9]{2}([0-9]{2}([0-9]{2}(\.[0-9]{1,6})?)?)?"),
}
_AGE = re.compile(r"[0-9]{1,3}")
_DOTTED = re.compile(r"([0-9]{4})\.([0-9]{2})\.([0-9]{2})")
_LATEST = {"DA": "99999999", "TM": "235959.999999"}
_MEANT = {
    "DA": "no date or range, as 20240131 or 20240101-20241231",
    "TM": "no time or range, as 0930 or 080000-115959",
}

Column = ColumnElement[str]


@dataclass(frozen=True, slots=True)
class Key:
    """A matching key: what a query asks of one attribute; several values are alternatives."""

    attribute: Attribute
    values: tuple[str, ...]

    @property
    def universal(self) -> bool:
        """Whether any value matches, also none at all (PS3.4 C.2.2.2.3)."""
        return set(self.values) <= {"", "*"}


def criterion(key: Key) -> ColumnElement[bool]:
    """Return the condition of a key that is not universal; raises BadQuery for a bad value."""
    attribute = key.attribute
    if len(key.values) > _MAXIMUM_VALUES:
        raise BadQuery(attribute.keyword, f"it has more than {_MAXIMUM_VALUES} values")
    if max(map(len, key.values)) > TEXT_LENGTH:
        raise BadQuery(attribute.keyword, f"a value is longer than {TEXT_LENGTH} characters")
    if attribute.vr not in _WILDCARD_VRS and any(set(value) & set("*?") for value in key.values):
        raise BadQuery(attribute.keyword, f"{attribute.vr} takes no wildcards")
    column = getattr(_TABLES[attribute.level], attribute.column)
    if attribute.vr == "UI":
        return column.in_(key.values)  # type: ignore[no-any-return]  # getattr knows no type
    rule = _RULES.get(attribute.vr, _text)
    return or_(*(rule(column, value, attribute) for value in key.values if value))


def matching(vr: str) -> str:
    """Name how keys of a value representation are matched (PS3.4 C.2.2.2)."""
    if vr == "UI":
        return "list of UID"
    if vr in _FORMS:
        return "range"
    return "single value, wildcard" if vr in _WILDCARD_VRS else "single value"


def value_range(text: str, *, vr: str, keyword: str) -> tuple[str | None, str | None]:
    """Read a DA or TM range (PS3.4 C.2.2.2.5): `d`, `d-`, `-d`, `d-d`, ends included.

    A date is `yyyymmdd`, or `yyyy.mm.dd` as of old, and a day that there is; a range may end with
    the 31st of any month. A time that leaves out seconds or minutes means all of them. Raises
    BadQuery.
    """
    first, dash, last = (part.strip() for part in text.partition("-"))
    if not dash:
        last = first
    form, latest = _FORMS[vr], _LATEST[vr]
    # Before 1993 dates had dots and times colons (PS3.5 6.2, notes to DA and TM).
    if vr == "DA":
        first, last = (_DOTTED.sub(r"\1\2\3", part) for part in (first, last))
    else:
        first, last = (part.replace(":", "") for part in (first, last))
    given = [part for part in (first, last) if part]
    if not given or not all(form.fullmatch(part) for part in given):
        raise BadQuery(keyword, _MEANT[vr])
    if vr == "DA":
        if not all(_is_day(part, in_any_month=bool(dash)) for part in given):
            raise BadQuery(keyword, "there is no such day")
        if len(given) == 2 and last < first:
            raise BadQuery(keyword, "the first day is after the last")
    return first or None, last + latest[len(last) :] if last else None


def _is_day(text: str, *, in_any_month: bool) -> bool:
    """Say whether there is a day, or could be one: clients write 31 for the end of a month."""
    month = 1 if in_any_month and 1 <= int(text[4:6]) <= 12 else int(text[4:6])
    try:
        date(int(text[:4]), month, int(text[6:]))
    except ValueError:
        return False
    return True


def age_range(text: str, *, field: str) -> tuple[int | None, int | None]:
    """Read an age in years or a range: `45`, `0-12`, `65-`, `-12`, ends included; raises BadQuery.

    Attribute matching knows no range of ages (PS3.4 C.2.2.2.5); the search does.
    """
    first, dash, last = (part.strip() for part in text.partition("-"))
    if not dash:
        last = first
    if not (first or last) or not all(_AGE.fullmatch(part) for part in (first, last) if part):
        raise BadQuery(field, "no age or range in years, as 12 or 0-12")
    youngest, oldest = (int(part) if part else None for part in (first, last))
    if youngest is not None and oldest is not None and youngest > oldest:
        raise BadQuery(field, "the first age is above the last")
    return youngest, oldest


def _text(column: Column, value: str, attribute: Attribute) -> ColumnElement[bool]:
    """Match a text as it is, or by `*` and `?`."""
    if attribute.vr in _WILDCARD_VRS and set(value) & set("*?"):
        return column.like(value.translate(_WILDCARDS), escape="\\")
    return column == value


def _name(column: Column, value: str, attribute: Attribute) -> ColumnElement[bool]:
    """Match a name or one of its component groups, capitals or not (PS3.4 C.2.2.2.1)."""
    pattern = value.lower().rstrip("^").translate(_WILDCARDS)
    return (literal("=") + func.lower(column) + "=").like(f"%={pattern}=%", escape="\\")


def _range(column: Column, value: str, attribute: Attribute) -> ColumnElement[bool]:
    first, last = value_range(value, vr=attribute.vr, keyword=attribute.keyword)
    conditions = [column != ""]
    if first is not None:
        conditions.append(column >= first)
    if last is not None:
        conditions.append(column <= last)
    return and_(*conditions)


def _number(column: Column, value: str, attribute: Attribute) -> ColumnElement[bool]:
    """Match an integer string in its usual form: `+7` and `007` are 7."""
    try:
        return column.in_({value, str(int(value))})
    except ValueError as error:
        raise BadQuery(attribute.keyword, "it is no number") from error


_RULES: dict[str, Callable[[Column, str, Attribute], ColumnElement[bool]]] = {
    "DA": _range, "TM": _range, "IS": _number, "PN": _name,
}  # fmt: skip
