"""`similis classify`: which of these words fits an image best?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dicom_node.cli.options import ConfigOption, JsonOption, configured, print_json, print_table

if TYPE_CHECKING:  # torch is imported when a command needs it, not to print a help text
    from dicom_node.config import Encoding
    from dicom_node.operate.given import GivenSeries
    from dicom_node.operate.sources import LeftOut
    from dicom_node.receive.clips import Embedded
    from encoder.lexicon import Understood
    from encoder.text_space import Matrix, TextSpace
    from training.facts import Facts

FilesArgument = Annotated[
    list[Path], typer.Argument(exists=True, help="DICOM files, or folders of them.")
]
LabelsOption = Annotated[
    str, typer.Option(help='What it may be, in English: "normal, bacterial pneumonia".')
]
SpaceOption = Annotated[
    Path | None,
    typer.Option("--space", help="Folder of a text space.", show_default="text.folder"),
]
MAX_LABELS = 100
MAX_LABEL_CHARACTERS = 200
_COLUMNS = ("clip", "modality", "kind", "frames", "label", "share", "cosine")


def classify(
    files: FilesArgument,
    labels: LabelsOption,
    space: SpaceOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Say which label fits the images of each file best; nothing is kept.

    A share is how likely the label is if one of them is right; whether one is, it does not say.
    """
    wanted = _labels(labels)
    settings = configured(config, None)
    encoding, folder = settings.encoder, space or settings.text.folder
    opened = _opened(encoding, Path(folder) if folder else None)
    _check_words(opened, wanted)
    clips, left_out = _classified(encoding, files, opened, wanted)
    if not clips:
        raise _nothing(left_out)
    _print(opened, clips, left_out, json)


def _labels(text: str) -> list[str]:
    """Cut labels at commas; what cannot be one is bad usage, and is not repeated."""
    labels = [re.sub(" +", " ", part).strip() for part in text.split(",")]
    for number, label in enumerate(labels, start=1):
        if reason := _why_no_label(label):
            raise typer.BadParameter(f"label {number} {reason}", param_hint="--labels")
    if len({label.casefold() for label in labels}) < len(labels):
        raise typer.BadParameter("a label is there twice", param_hint="--labels")
    if not 1 < len(labels) <= MAX_LABELS:
        reason = f"{len(labels)} labels: give 2 to {MAX_LABELS}, parted by commas"
        raise typer.BadParameter(reason, param_hint="--labels")
    return labels


def _why_no_label(label: str) -> str:
    if not label:
        return "is empty"
    if len(label) > MAX_LABEL_CHARACTERS:
        return f"has {len(label)} characters, at most {MAX_LABEL_CHARACTERS} are read"
    if not label.isprintable():
        return "has control characters"
    return ""


def _opened(encoding: Encoding, folder: Path | None) -> TextSpace:
    """Open the space of the configured encoder; raises BadCheckpoint where there is none."""
    from dicom_node.parts import configured_encoder
    from encoder import space_checkpoint
    from encoder.text_space import TextSpace

    model_id = configured_encoder(encoding).model_id
    checkpoint = space_checkpoint.load(folder, image_model_id=model_id)
    return TextSpace(checkpoint, device=encoding.device)


def _check_words(space: TextSpace, labels: list[str]) -> None:
    """Refuse a label without a word in English: within a prompt it would pass."""
    from encoder.errors import BadText

    for number, label in enumerate(labels, start=1):
        try:
            space.texts([label])
        except BadText as error:
            reason = f"label {number}: {error.reason}. {error.advice}"
            raise typer.BadParameter(reason, param_hint="--labels") from error


def _classified(
    encoding: Encoding, paths: list[Path], space: TextSpace, labels: list[str]
) -> tuple[list[dict[str, Any]], list[LeftOut]]:
    """Embed in the process that decodes for the node, so that a hostile file can do no harm."""
    from dicom_node.listener import prepare_dicom
    from dicom_node.operate.given import given_series
    from dicom_node.operate.sources import LeftOut
    from dicom_node.receive.worker import Worker
    from training.zero_shot import label_vectors

    prepare_dicom()
    said_of = cache(partial(label_vectors, space, labels))  # of Facts, which many clips share
    read = {label: space.understanding(label) for label in labels}
    series, left_out = given_series(paths)
    clips: list[dict[str, Any]] = []
    worker = Worker(encoding)
    try:
        for each in series:
            embedded = worker.embed(each.files)
            faults = (*embedded.unreadable, *embedded.skipped)
            left_out += [LeftOut(fault.sop_instance_uid, fault.reason) for fault in faults]
            clips += _clips(each, embedded, space, read, said_of)
    finally:
        worker.stop()
    return clips, left_out


def _clips(
    series: GivenSeries,
    embedded: Embedded,
    space: TextSpace,
    read: Mapping[str, Understood],
    said_of: Callable[[Facts], Matrix],
) -> list[dict[str, Any]]:
    """Tell every clip of a series; all of them are asked with the words of its header."""
    from encoder.clip import Kind
    from training.facts import Facts

    header, found = series.header, []
    for clip in embedded.clips:
        facts = Facts(Kind(clip.kind), header.modality, header.body_part_examined)
        words = said_of(facts)
        (image,) = space.images(clip.vector[None], [header.modality])
        told = _told(space, read, words @ image)
        found.append(
            {
                "clip": clip.sources[len(clip.sources) // 2],
                "file": str(series.files[0]),
                "files": len(series.files),
                "modality": header.modality,
                "kind": clip.kind,
                "frames": clip.frames,
                "head": space.head_of(header.modality),
                "far": all(one["cosine"] < one["needed"] for one in told),
                "labels": told,
            }
        )
    return found


def _told(
    space: TextSpace, read: Mapping[str, Understood], cosines: Matrix
) -> list[dict[str, Any]]:
    """Lay labels out by their cosines (K,), the nearest first, each judged by its own words."""
    from dicom_node.answer.verdict import needed_cosine
    from training.shares import shares

    likely = shares(cosines, space.temperature)
    return [
        {
            "label": label,
            "share": float(share),
            "cosine": float(cosine),
            "needed": needed_cosine(known, space),
            "not_learned": known.unknown,
            "negated": known.negated,
        }
        for (label, known), cosine, share in sorted(
            zip(read.items(), cosines, likely, strict=True), key=lambda one: -one[1]
        )
    ]


def _nothing(left_out: list[LeftOut]) -> Exception:
    from dicom_node.errors import SimilisError

    return SimilisError(f"nothing to classify: {left_out[0].reason if left_out else 'no files'}")


def _print(
    space: TextSpace, clips: list[dict[str, Any]], left_out: list[LeftOut], json: bool
) -> None:
    if json:
        print_json(
            {
                "space_id": space.space_id,
                "near": space.near,
                "temperature": space.temperature,
                "clips": clips,
                "left_out": [{"what": one.name, "reason": one.reason} for one in left_out],
            }
        )
    else:
        rows = [row for clip in clips for row in _rows(clip)]
        print_table("Labels by their share, the likeliest first", _COLUMNS, rows)
        for one in left_out:
            typer.echo(f"left out: {one.name}: {one.reason}", err=True)
    for remark in _remarks(space, clips):
        typer.echo(remark, err=True)


def _remarks(space: TextSpace, clips: list[dict[str, Any]]) -> Iterator[str]:
    """Say what of the labels was not learned, and what of each clip makes its answer doubtful."""
    for one in clips[0]["labels"]:
        if one["not_learned"]:
            yield f"Label {one['label']}: not learned: {', '.join(one['not_learned'])}."
        if one["negated"]:
            cues = ", ".join(one["negated"])
            yield f"Label {one['label']}: negation is not understood: {cues}."
    for clip in clips:
        name, best = _name(clip), clip["labels"][0]
        if not clip["head"]:
            modality = clip["modality"] or "no modality"
            yield (
                f"{modality} was not bound to words: {name} is read by what all others have in "
                "common."
            )
        if clip["far"]:
            yield (
                f"No label fits {name}: the best cosine is {best['cosine']:.3f}, at least "
                f"{best['needed']:.3f} is needed."
            )
        elif not space.understanding(best["label"]).says_something:
            yield f"What {name} is told says little: nothing was learned of {best['label']}."


def _rows(clip: dict[str, Any]) -> list[tuple[object, ...]]:
    same = (_name(clip), clip["modality"], clip["kind"], clip["frames"])
    return [
        (*same, one["label"], f"{one['share']:.1%}", f"{one['cosine']:.3f}")
        for one in clip["labels"]
    ]


def _name(clip: dict[str, Any]) -> str:
    """Name a clip by its file, or among several files by the UID of its middle one."""
    return str(clip["file"] if clip["files"] == 1 else clip["clip"])
