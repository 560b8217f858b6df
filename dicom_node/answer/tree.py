"""The content tree of a report: a TID 1500 Measurement Report with one group per similar case.

Everything in a report is said of the header's patient unless the Subject Context says otherwise.
Score and rank are statements about the query and stand in the group; what is said of a neighbour
stands in its Reference case container, whose subject is a pseudonym (PS3.16 TID 1006, 1007).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_node.answer import codes
from dicom_node.answer.content_item import (
    Relation,
    code,
    container,
    image,
    number,
    root,
    text,
    uid_reference,
)  # fmt: skip
from dicom_node.answer.evidence import KeyImage, QueryEvidence, Source, integer_of, text_of
from dicom_node.answer.pseudonym import Pseudonymised, pseudonym, pseudonymous_uid
from index.records import Case, Ranking

DISCLAIMER = "Decision support only. Not a diagnosis."

# A reading aid and no more: a cosine is not a probability, and no study set these limits.
_CATEGORIES = ((0.85, codes.HIGH), (0.6, codes.MODERATE))

_PER_YEAR = {"D": 365, "W": 52, "M": 12, "Y": 1}
_OLDEST_BAND_YEARS = 90  # older people are few enough to be recognised by their age


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """What found the cases; `parameters` are sentences such as `metric=cosine`.

    A report says that the encoder is untrained unless `trained` is set.
    """

    name: str
    version: str
    manufacturer: str
    parameters: tuple[str, ...] = ()
    trained: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Observer:
    """The device that answers for the content: AE title and the UID of the installation."""

    ae_title: str
    device_uid: str


@dataclass(frozen=True, slots=True)
class Naming:
    """How neighbours are named: by pseudonyms, save those whose image is `linked`.

    `linked` gives the SOP class of such an image by its SOP Instance UID.
    """

    secret: bytes
    linked: Mapping[str, str]

    def uid(self, case: Case, real: str) -> str:
        """Return what stands for a UID of `case`."""
        is_linked = case.sop_instance_uid in self.linked
        return real if is_linked else pseudonymous_uid(self.secret, real)


def measurement_report(
    *,
    title: codes.CodedConcept,
    query: QueryEvidence,
    ranking: Ranking,
    algorithm: Algorithm,
    observer: Observer,
    naming: Naming,
) -> Dataset:
    """Return the root of the tree (TID 1500)."""
    modality = text_of(query.images[0], "Modality")
    same = _Same.made_for(algorithm, ranking)
    return root(
        title,
        "1500",
        code(Relation.HAS_CONCEPT_MOD, codes.LANGUAGE, codes.ENGLISH),
        *_observation_context(observer, algorithm),
        code(
            Relation.HAS_CONCEPT_MOD, codes.PROCEDURE_REPORTED, codes.procedure_reported(modality)
        ),
        _image_library(query),
        container(
            codes.IMAGING_MEASUREMENTS,
            *(
                _similar_case(case, query, same, _category(case, algorithm), naming)
                for case in ranking.cases
            ),
        ),
        container(
            codes.QUALITATIVE_EVALUATIONS,
            text(Relation.CONTAINS, codes.SUMMARY, summary(ranking, algorithm, naming.secret)),
        ),
    )


def summary(ranking: Ranking, algorithm: Algorithm, secret: bytes) -> str:
    """Return the cases for people to read, one a line, with what must be known beside them."""
    lines = [
        f"#{case.rank} case {case_name(case, secret)} score {case.score:.3f} "
        f"{codes.modality(case.modality).value}"
        for case in ranking.cases
    ]
    if not ranking.cases:
        lines.append("No similar case found.")
    return "\r\n".join([*warnings_about(ranking, algorithm), *lines, DISCLAIMER])


def warnings_about(ranking: Ranking, algorithm: Algorithm) -> Iterator[str]:
    """Yield what must be known before the scores are read."""
    if not algorithm.trained:
        yield "The encoder is untrained: these scores carry no medical meaning."
    if not ranking.complete:
        yield "Some earlier cases were not searched: they are still being indexed."


def _observation_context(observer: Observer, algorithm: Algorithm) -> Iterator[Dataset]:
    """Yield the device observer (TID 1001, 1002, 1004)."""
    context = Relation.HAS_OBS_CONTEXT
    yield code(context, codes.OBSERVER_TYPE, codes.DEVICE)
    yield uid_reference(context, codes.DEVICE_UID, observer.device_uid)
    yield text(context, codes.DEVICE_NAME, observer.ae_title)
    yield text(context, codes.DEVICE_MANUFACTURER, algorithm.manufacturer)
    yield text(context, codes.DEVICE_MODEL_NAME, algorithm.name)
    yield text(context, codes.DEVICE_SERIAL_NUMBER, observer.device_uid)


def _image_library(query: QueryEvidence) -> Dataset:
    """Return the query's key images (TID 1600)."""
    entries = (_library_entry(key_image) for key_image in query.key_images)
    return container(codes.IMAGE_LIBRARY, container(codes.IMAGE_LIBRARY_GROUP, *entries))


def _library_entry(key_image: KeyImage) -> Dataset:
    """Return a key image with those descriptors of TID 1602 that its header holds."""
    acquisition = Relation.HAS_ACQ_CONTEXT
    header = key_image.header
    descriptors = [code(acquisition, codes.MODALITY, codes.modality(text_of(header, "Modality")))]
    if uid := text_of(header, "FrameOfReferenceUID"):
        descriptors.append(uid_reference(acquisition, codes.FRAME_OF_REFERENCE_UID, uid))
    for name, keyword in (
        (codes.PIXEL_DATA_ROWS, "Rows"),
        (codes.PIXEL_DATA_COLUMNS, "Columns"),
    ):
        if pixels := integer_of(header, keyword):
            descriptors.append(number(acquisition, name, str(pixels), codes.PIXELS))
    return image(
        Relation.CONTAINS,
        codes.SOURCE,
        *descriptors,
        sop_class_uid=key_image.sop_class_uid,
        sop_instance_uid=key_image.sop_instance_uid,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Same:
    """The items that stand in every group: made once, for they are almost half of a report."""

    finding: tuple[Dataset, ...]
    cosine_similarity: Dataset
    rank_among_retrieved: Dataset
    subject_class: Dataset

    @classmethod
    def made_for(cls, algorithm: Algorithm, ranking: Ranking) -> "_Same":
        return cls(
            finding=tuple(_finding(algorithm, ranking)),
            cosine_similarity=_method(codes.COSINE_SIMILARITY),
            rank_among_retrieved=_method(codes.RANK_AMONG_RETRIEVED),
            subject_class=code(Relation.HAS_OBS_CONTEXT, codes.SUBJECT_CLASS, codes.PATIENT),
        )


def _similar_case(
    case: Case,
    query: QueryEvidence,
    same: "_Same",
    category: Iterable[Dataset],
    naming: Naming,
) -> Dataset:
    """Return the group of one case (TID 1501)."""
    context, contains = Relation.HAS_OBS_CONTEXT, Relation.CONTAINS
    pair = f"{query.study_instance_uid}\\{case.study_instance_uid}"
    source = query.source(case)
    return container(
        codes.MEASUREMENT_GROUP,
        text(context, codes.TRACKING_IDENTIFIER, f"Similar case {case.rank}"),
        uid_reference(context, codes.TRACKING_UID, pseudonymous_uid(naming.secret, pair)),
        *same.finding,
        number(
            contains,
            codes.SIMILARITY_SCORE,
            f"{case.score:.4f}",
            codes.NO_UNITS,
            same.cosine_similarity,
            _source(Relation.INFERRED_FROM, source),
        ),
        number(
            contains,
            codes.SIMILARITY_RANK,
            str(case.rank),
            codes.NO_UNITS,
            same.rank_among_retrieved,
        ),
        *category,
        _source(contains, source),
        _reference_case(case, same.subject_class, naming),
    )


def _finding(algorithm: Algorithm, ranking: Ranking) -> Iterator[Dataset]:
    """Yield what is found, and by whom: name, version, parameters and family (TID 4019)."""
    yield code(Relation.CONTAINS, codes.FINDING, codes.SIMILAR_CASE)
    modifier = Relation.HAS_CONCEPT_MOD
    searched = (
        f"model_id={ranking.model_id}",
        f"searched={ranking.searched}, {'exact' if ranking.exact else 'approximate'}",
    )
    yield text(modifier, codes.ALGORITHM_NAME, algorithm.name)
    yield text(modifier, codes.ALGORITHM_VERSION, algorithm.version)
    yield text(modifier, codes.ALGORITHM_MANUFACTURER, algorithm.manufacturer)
    for parameter in (*algorithm.parameters, *searched):
        yield text(modifier, codes.ALGORITHM_PARAMETERS, parameter)
    yield code(modifier, codes.ALGORITHM_FAMILY, codes.ARTIFICIAL_INTELLIGENCE)


def _reference_case(case: Case, subject_class: Dataset, naming: Naming) -> Dataset:
    """Return what is said of the neighbour, under a subject of its own (TID 1006, 1007)."""
    context, contains = Relation.HAS_OBS_CONTEXT, Relation.CONTAINS
    secret = naming.secret
    # A backslash cannot occur in LO: no other patient, and no UID, gives the same key.
    patient = f"{case.issuer_of_patient_id}\\{case.patient_id or case.study_instance_uid}"
    items = [
        subject_class,
        uid_reference(context, codes.SUBJECT_UID, pseudonymous_uid(secret, patient)),
        text(context, codes.SUBJECT_ID, pseudonym(secret, Pseudonymised.PATIENT, patient)),
        uid_reference(
            contains, codes.STUDY_INSTANCE_UID, naming.uid(case, case.study_instance_uid)
        ),
        uid_reference(
            contains, codes.SERIES_INSTANCE_UID, naming.uid(case, case.series_instance_uid)
        ),
        code(contains, codes.MODALITY, codes.modality(case.modality)),
    ]
    if sop_class_uid := naming.linked.get(case.sop_instance_uid):
        items.append(
            image(
                contains,
                codes.MOST_SIMILAR_IMAGE,
                sop_class_uid=sop_class_uid,
                sop_instance_uid=case.sop_instance_uid,
                frame=case.case_part.frame if case.case_part and case.case_part.frame > 1 else None,
            )
        )
    items.append(text(contains, codes.COMMENT, _comment(case, secret)))
    return container(codes.REFERENCE_CASE, *items)


def _comment(case: Case, secret: bytes) -> str:
    """Return the little about a neighbour that cannot name him: age band, year, how many alike."""
    known = [f"Case {case_name(case, secret)}"]
    if band := age_band(case.patient_age):
        known.append(f"age {band}")
    if len(case.study_date) == 8 and case.study_date.isdecimal():
        known.append(f"study year {case.study_date[:4]}")
    if case.near_duplicates:
        known.append(f"shown alike in {len(case.near_duplicates)} more")
    return ", ".join(known)


def age_band(patient_age: str) -> str:
    """Return the decade of an Age String (PS3.5 AS) such as `60-69 years`; empty if unknown."""
    count, unit = patient_age[:-1], patient_age[-1:]
    if len(count) != 3 or not count.isdecimal() or unit not in "DWMY":
        return ""
    years = int(count) // _PER_YEAR[unit]
    if years >= _OLDEST_BAND_YEARS:
        return f"{_OLDEST_BAND_YEARS} years or more"
    decade = years // 10 * 10
    return f"{decade}-{decade + 9} years"


def case_name(case: Case, secret: bytes) -> str:
    """Return what a case is called in every document of this installation, such as `R-7F3A91C2`."""
    return pseudonym(secret, Pseudonymised.CASE, case.study_instance_uid)


def _category(case: Case, algorithm: Algorithm) -> Iterator[Dataset]:
    """Yield how near a case is in words; an untrained encoder has no say in it."""
    if algorithm.trained:
        near = next((name for least, name in _CATEGORIES if case.score >= least), codes.LOW)
        yield code(Relation.CONTAINS, codes.SIMILARITY_CATEGORY, near)


def _method(method: codes.CodedConcept) -> Dataset:
    return code(Relation.HAS_CONCEPT_MOD, codes.MEASUREMENT_METHOD, method)


def _source(relation: Relation, source: Source) -> Dataset:
    """Return the image, and of several frames the one, that a case was found by."""
    return image(
        relation,
        codes.SOURCE_OF_MEASUREMENT,
        sop_class_uid=source.image.sop_class_uid,
        sop_instance_uid=source.image.sop_instance_uid,
        frame=source.frame,
    )
