"""The values of reports that cross the border of the house: what `records` is for studies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ReportState(StrEnum):
    """How far a report has come."""

    CREATED = "created"
    SENT = "sent"
    COMMITTED = "committed"
    FAILED = "failed"
    OUTDATED = "outdated"  # what it says of its own study no longer holds


@dataclass(frozen=True, slots=True)
class ReportedCase:
    """A study that a report names."""

    rank: int
    score: float
    study_instance_uid: str


@dataclass(frozen=True, slots=True)
class ReportFile:
    """An object that goes out beside the report, such as a contact sheet."""

    sop_instance_uid: str
    sop_class_uid: str
    relative_path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewReport:
    """A report to be kept; `predecessor` is the SOP Instance UID of the one it supersedes.

    `revision` is that of the study it was written on; `linked`: it names other patients' studies.
    """

    study_id: int
    revision: int
    destination: str
    sop_instance_uid: str
    series_instance_uid: str
    relative_path: str
    model_id: str
    cases: tuple[ReportedCase, ...] = ()
    attachments: tuple[ReportFile, ...] = ()
    predecessor: str = ""
    linked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRow:
    """A report as kept; `number` counts from 1 per study and destination."""

    id: int
    number: int
    created_at: datetime
    state: ReportState
    study_id: int
    destination: str
    sop_instance_uid: str
    series_instance_uid: str
    relative_path: str
    model_id: str
    cases: tuple[ReportedCase, ...]
    attachments: tuple[ReportFile, ...]
    predecessor: str
    linked: bool
