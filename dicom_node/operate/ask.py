"""Similar cases asked for by a command: by a kept study, by files, by words, by words and one."""

from dataclasses import dataclass
from pathlib import Path

from dicom_node.answer.query import Example, Filters, similar_to_examples, similar_to_study
from dicom_node.answer.verdict import Judged
from dicom_node.answer.words import Beside, Sentence, example_of, similar_to_words
from dicom_node.errors import NotKnown, NotUnderstood, SimilisError
from dicom_node.generation import Answering, answering_model, open_answering, start_workers
from dicom_node.operate.example import embed_examples
from dicom_node.operate.sources import files_below
from dicom_node.operate.words import open_words
from dicom_node.parts import Parts
from dicom_node.receive.clips import Region
from index.records import Ranking


@dataclass(frozen=True, slots=True)
class Files:
    """Files and folders that are wanted, or a region of them, and such that are not."""

    wanted: list[Path]
    region: Region | None
    unwanted: list[Path]


@dataclass(frozen=True, slots=True)
class Asked:
    """What cases are to be like, files or a kept study, and what they are to be: one at least.

    `weight` is the share of the words beside an example; None: as configured.
    """

    example: Files | str | None
    text: str = ""
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The cases, and how far words were understood if there were any that count."""

    ranking: Ranking
    judged: Judged | None = None


def ask(parts: Parts, asked: Asked, filters: Filters) -> Found:
    """Rank the kept studies.

    Raises `NotKnown` for an unknown study, `NotUnderstood` for files without a clip, else as
    `embed_examples`; for words as `open_words`, and `BadText`.
    """
    if asked.text and (asked.example is None or _weight(parts, asked)):
        return _in_words(parts, asked, filters)
    if isinstance(asked.example, Files):
        wanted, unwanted = _embedded(parts, asked.example)
        return Found(similar_to_examples(_opened(parts).search, wanted, unwanted, filters))
    uid = asked.example or ""
    answered = similar_to_study(parts.catalogue, _opened(parts).search, uid, filters)
    if answered is None:
        raise _without_vectors(parts, uid)
    return Found(answered.ranking)


def _in_words(parts: Parts, asked: Asked, filters: Filters) -> Found:
    search = open_words(parts)  # before an example is embedded in vain
    beside = None
    if asked.example is not None:
        example = _example(parts, asked.example)
        opened = _opened(parts)
        beside = Beside(example, opened.search, _weight(parts, asked), opened.model.version)
    told = similar_to_words(search, Sentence(asked.text, beside), filters)
    return Found(told.ranking, told.judged)


def _weight(parts: Parts, asked: Asked) -> float:
    return parts.config.text.weight if asked.weight is None else asked.weight


def _example(parts: Parts, asked: Files | str) -> Example:
    """Return the one example that words go with."""
    if isinstance(asked, Files):
        wanted, _ = _embedded(parts, asked)
        if len(wanted) > 1:
            raise NotUnderstood("words go with one example; give the files of one study")
        return wanted[0]
    study = parts.catalogue.study_query(asked, answering_model(parts).model_id)
    if study is None:
        raise _without_vectors(parts, asked)
    return example_of(parts.catalogue, study)


def _without_vectors(parts: Parts, uid: str) -> SimilisError:
    known = parts.catalogue.study_row(uid)
    if known is not None:
        return SimilisError(f"study {uid} is {known.state}: it has no vector to compare by")
    return NotKnown("study", uid, "`similis import` takes studies in")


def _embedded(parts: Parts, files: Files) -> tuple[list[Example], list[Example]]:
    """Return the examples that are wanted, and those that are not."""
    (worker,) = start_workers(parts, 1)
    try:
        model_id = answering_model(parts).model_id
        wanted = embed_examples(
            worker, _found(files.wanted), model_id=model_id, region=files.region
        )
        unwanted = _found(files.unwanted)
        return wanted, embed_examples(worker, unwanted, model_id=model_id) if unwanted else []
    finally:
        worker.stop()


def _opened(parts: Parts) -> Answering:
    return open_answering(parts, answering_model(parts), read_only=True)


def _found(paths: list[Path]) -> list[Path]:
    return [path for path in files_below(paths) if isinstance(path, Path)]
