"""Ordinary C-FIND (PS3.4 C.4.1, Study Root): what of the catalogue matches the keys of a level."""

from collections.abc import Iterator

import structlog
from pynetdicom import evt

from dicom_node.answer.identifier import Identifier
from dicom_node.answer.pending import send_pending
from dicom_node.answer.response import Answers, Responder
from dicom_node.listener import peer
from index.attributes import Level
from index.catalogue import Catalogue
from index.matches import Match

log = structlog.get_logger()


def find_matches(
    event: evt.Event, identifier: Identifier, catalogue: Catalogue, *, retrieve_ae_title: str
) -> Answers:
    """Answer one C-FIND, match by match; raise `QueryRefused` and `BadQuery`."""
    identifier.check_parents()
    responder = Responder(identifier, retrieve_ae_title=retrieve_ae_title)
    status = responder.status
    answers = ((status, responder.answer(match)) for match in matches(identifier, catalogue))
    answered = yield from send_pending(event, answers)
    level = identifier.level.value
    log.info("query_answered", level=level, matches=answered, source=peer(event))


def matches(identifier: Identifier, catalogue: Catalogue) -> Iterator[Match]:
    """Yield what matches at the level of the query, under all that matches above it."""
    level = identifier.level
    above = [*identifier.keys(Level.PATIENT), *identifier.keys(Level.STUDY)]
    if level is not Level.STUDY:  # leaves out studies that have no such series
        above += identifier.keys(Level.SERIES)
    for study in catalogue.matching_studies(above):
        if level is Level.STUDY:
            yield Match(study)
            continue
        study_uid = study.study_instance_uid
        for series in catalogue.matching_series(study_uid, identifier.keys(Level.SERIES)):
            if level is Level.SERIES:
                yield Match(study, series)
                continue
            keys = identifier.keys(Level.IMAGE)
            for image in catalogue.matching_images(study_uid, series.series_instance_uid, keys):
                yield Match(study, series, image)
