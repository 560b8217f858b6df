"""The values that ordinary queries give: what was found at a level, and what lies behind it."""

from __future__ import annotations

from dataclasses import dataclass

from index.records import StudyRow


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRow:
    """A series as the catalogue holds it; `instances` counts current versions."""

    instances: int
    series_instance_uid: str
    modality: str
    body_part_examined: str
    series_number: str
    series_description: str
    protocol_name: str
    manufacturer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRow:
    """The current version of an instance, as the catalogue holds it."""

    sop_instance_uid: str
    sop_class_uid: str
    instance_number: str


@dataclass(frozen=True, slots=True)
class Match:
    """What a query found at its level: a study, a series of it, or an image of that."""

    study: StudyRow
    series: SeriesRow | None = None
    image: ImageRow | None = None


@dataclass(frozen=True, slots=True)
class OwnObject:
    """An object that this node made; its path is below the folder of reports."""

    sop_instance_uid: str
    relative_path: str
