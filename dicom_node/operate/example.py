"""An example that is not kept: files in, vectors out, nothing written."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dicom_node.answer.query import Example
from dicom_node.errors import NotUnderstood, ObjectRefused
from dicom_node.receive.clips import Embedded, Region
from dicom_node.receive.header import read_file_header
from dicom_node.receive.turns import Caller
from dicom_node.receive.worker import Worker
from index.errors import OtherGeneration
from index.records import ClipRecord, Header, PatientKey


def embed_examples(
    worker: Worker,
    paths: Sequence[Path],
    *,
    model_id: str,
    region: Region | None = None,
    caller: Caller | None = None,
) -> list[Example]:
    """Embed the files of studies, each of which is an example, to compare with vectors by a model.

    Raises `NotUnderstood` when the files of a study give no clip, or several studies a region;
    `OtherGeneration` when the worker does not run that model (any more); else as `Worker.embed`.
    """
    studies: dict[str, dict[Path, Header]] = defaultdict(dict)
    for path in paths:
        header = _header(path)
        studies[header.study_instance_uid][path] = header
    if not studies:
        raise NotUnderstood("nothing to compare with: no files")
    if region is not None and len(studies) > 1:
        raise NotUnderstood("a slice or a box is of one example; give the files of one study")
    return [_example(worker, headers, model_id, region, caller) for headers in studies.values()]


def _example(
    worker: Worker,
    headers: Mapping[Path, Header],
    model_id: str,
    region: Region | None,
    caller: Caller | None,
) -> Example:
    """Embed the files of one study, series by series.

    Of a region only parts are compared in the end: a part of one image is more like a part of
    another than like all of it.
    """
    first = next(iter(headers.values()))
    if region is not None and region.frame is not None and len(headers) > 1:
        headers = _slice(headers, region.frame)
        region = replace(region, frame=1)
    series: dict[str, list[Path]] = defaultdict(list)
    for path, header in headers.items():
        series[header.series_instance_uid].append(path)
    embedded = [
        worker.embed(tuple(files), region=region, caller=caller) for files in series.values()
    ]
    clips = _clips_of(embedded, model_id)
    if not clips:
        faults = [f.reason for part in embedded for f in (*part.unreadable, *part.skipped)]
        raise NotUnderstood(f"nothing to compare with: {faults[0] if faults else 'no files'}")
    return Example(
        vectors=np.stack([clip.vector for clip in clips]),
        study_instance_uid=first.study_instance_uid,
        patient=PatientKey(first.patient_id, first.issuer_of_patient_id),
        parts=tuple(clip.parts for clip in clips),
        modalities=tuple(
            headers[files[0]].modality
            for files, part in zip(series.values(), embedded, strict=True)
            for _ in part.clips
        ),
        part_weight=None if region is None else 1.0,
    )


def _clips_of(embedded: Sequence[Embedded], model_id: str) -> list[ClipRecord]:
    """Return the clips, which a model must have made."""
    for part in embedded:
        if part.model_id != model_id:
            raise OtherGeneration(part.model_id, model_id)
    return [clip for part in embedded for clip in part.clips]


def _header(path: Path) -> Header:
    try:
        return read_file_header(path)
    except ObjectRefused as error:
        raise NotUnderstood(f"{path}: {error.reason}") from error


def _slice(headers: Mapping[Path, Header], number: int) -> dict[Path, Header]:
    """Choose the one file whose Instance Number this is."""
    numbers = [header.instance_number for header in headers.values()]
    if numbers.count(str(number)) != 1:
        raise NotUnderstood(
            f"{numbers.count(str(number))} of {len(numbers)} files have the Instance Number "
            f"{number}; name the file of the slice itself"
        )
    return {path: h for path, h in headers.items() if h.instance_number == str(number)}
