"""What can be done where files, rows, vectors and the graph disagree, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from dicom_node.errors import DataFolderBusy, ObjectRefused
from dicom_node.generation import keep_encoder, source_of
from dicom_node.operate.check import Finding, Trouble, makers_of
from dicom_node.parts import Parts, configured_encoder, open_index
from index.jobs import JobKind
from index.repairs import AT_DESTINATION


class Outcome(StrEnum):
    """What became of a finding."""

    REPAIRED = "repaired"
    LEFT = "left"  # it does no harm
    BEYOND = "beyond repair"


@dataclass(frozen=True, slots=True)
class Done:
    """What was done about a finding, as a sentence."""

    outcome: Outcome
    what: str


def repair(parts: Parts, finding: Finding) -> Done:
    """Do what can be done about a finding; no whole file is deleted."""
    try:
        return _REPAIRS[finding.trouble](parts, finding)
    except OSError as error:
        return Done(Outcome.BEYOND, f"left alone: {error.strerror}")


def _lose_missing(parts: Parts, finding: Finding) -> Done:
    if parts.store.is_empty():
        where = f"{parts.store.folder} holds no file at all"
        return Done(Outcome.BEYOND, f"nothing: {where}; mount it, or bring it back from a backup")
    return _lose(parts, finding)


def _lose(parts: Parts, finding: Finding) -> Done:
    """Let go of a version whose file is gone; looked at again, it may have been sent meanwhile."""
    if parts.store.path(finding.subject).exists():
        return Done(Outcome.REPAIRED, "nothing: the file has come back")
    lost = parts.catalogue.lose_version(finding.subject)
    if lost is None:
        return Done(Outcome.REPAIRED, "nothing: it was forgotten meanwhile")
    of = f"instance {lost.sop_instance_uid} of study {lost.study_instance_uid}"
    return Done(Outcome.BEYOND, f"lost: {of}; let the PACS send it again")


def _set_aside(parts: Parts, finding: Finding) -> Done:
    aside = parts.store.set_aside(finding.subject)
    lost = _lose(parts, finding)
    return Done(lost.outcome, f"set aside as {aside}; {lost.what}")


def _take_in(parts: Parts, finding: Finding) -> Done:
    try:
        with parts.store.path(finding.subject).open("rb") as file:
            parts.intake.take_file(file, source="check")
    except ObjectRefused as error:
        return Done(Outcome.BEYOND, f"left alone: {error.reason}")
    return Done(Outcome.REPAIRED, "taken in")


def _set_torn_aside(parts: Parts, finding: Finding) -> Done:
    aside = parts.store.set_aside(finding.subject)
    return Done(Outcome.REPAIRED, f"set aside as {aside}: no sender was told that it is kept")


def _leave_guest(parts: Parts, finding: Finding) -> Done:
    advice = "it was sent to be compared; `similis import` takes it in, if it is to be kept"
    return Done(Outcome.LEFT, f"nothing: {advice}")


def _sweep(parts: Parts, finding: Finding) -> Done:
    parts.store.sweep()
    return Done(Outcome.REPAIRED, "removed: no sender was told that it is kept")


def _leave_aside(parts: Parts, finding: Finding) -> Done:
    advice = "`similis forget` does not know whose it is; delete it when it is no longer needed"
    return Done(Outcome.LEFT, f"nothing: {advice}")


def _replace_report(parts: Parts, finding: Finding) -> Done:
    state = parts.catalogue.replace_report(finding.subject)
    if state is None:
        return Done(Outcome.REPAIRED, "nothing: it was forgotten meanwhile")
    if state in AT_DESTINATION:
        return Done(Outcome.LEFT, f"nothing: it is {state}, and no longer needed here")
    return Done(Outcome.REPAIRED, f"it was {state}: another is asked for in its place")


def _leave_report(parts: Parts, finding: Finding) -> Done:
    advice = "no report has it; where no node is running, it may be deleted"
    return Done(Outcome.LEFT, f"nothing: {advice}")


def _embed_again(parts: Parts, finding: Finding) -> Done:
    parts.jobs.enqueue(JobKind.EMBED, finding.key)
    return Done(Outcome.REPAIRED, _QUEUED)


def _delete_vector(parts: Parts, finding: Finding) -> Done:
    if finding.unfit is not None:
        parts.catalogue.delete_vector(finding.unfit)
    return Done(Outcome.REPAIRED, f"deleted; its series is {_QUEUED}")


def _delete_stray(parts: Parts, finding: Finding) -> Done:
    return Done(Outcome.REPAIRED, f"{parts.catalogue.delete_stray_vectors()} deleted")


def _build_graph(parts: Parts, finding: Finding) -> Done:
    """Build and save the graphs, unless a node has it in memory and saves it."""
    try:
        parts.folder.lock()
    except DataFolderBusy:
        return Done(Outcome.REPAIRED, "nothing: the running node has it right, and saves it")
    try:
        vectors = 0
        for maker in makers_of(parts):
            index = open_index(parts, maker)
            index.save()
            vectors += len(index)
            index.close()
    finally:
        parts.folder.unlock()
    return Done(Outcome.REPAIRED, f"built of {vectors} vectors")


def _keep_encoder(parts: Parts, finding: Finding) -> Done:
    model_id, advice = finding.subject, finding.detail
    if configured_encoder(parts.config.encoder).model_id != model_id:
        return Done(Outcome.BEYOND, f"nothing: the configured encoder is another; {advice}")
    keep_encoder(parts.folder, model_id, source_of(parts.config.encoder))
    return Done(Outcome.REPAIRED, "copied from the configured encoder")


def _leave_words(parts: Parts, finding: Finding) -> Done:
    return Done(Outcome.LEFT, "nothing: all but words is answered")


_QUEUED = "queued: a running node, or the next `similis import`, embeds it"

_REPAIRS: dict[Trouble, Callable[[Parts, Finding], Done]] = {
    Trouble.FILE_MISSING: _lose_missing,
    Trouble.FILE_DAMAGED: _set_aside,
    Trouble.FILE_UNKNOWN: _take_in,
    Trouble.FILE_TORN: _set_torn_aside,
    Trouble.FILE_OF_GUEST: _leave_guest,
    Trouble.FILE_LEFT_OVER: _sweep,
    Trouble.FILE_SET_ASIDE: _leave_aside,
    Trouble.REPORT_MISSING: _replace_report,
    Trouble.REPORT_UNKNOWN: _leave_report,
    Trouble.SERIES_WITHOUT_VECTOR: _embed_again,
    Trouble.VECTOR_UNFIT: _delete_vector,
    Trouble.VECTOR_STRAY: _delete_stray,
    Trouble.GRAPH_UNUSABLE: _build_graph,
    Trouble.ENCODER_MISSING: _keep_encoder,
    Trouble.WORDS_UNANSWERED: _leave_words,
}
