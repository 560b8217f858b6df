"""Queries by example: what names the example, what filters the cases, what is refused."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import peers
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from scripted import c_find, identifier

from dicom_node.answer import private
from dicom_node.node import Node
from training import phantoms

BLOCK = private.Block(0x10)
WAIT_S = 0.5


@dataclass(frozen=True, slots=True)
class Study:
    """What was pushed of a study: its UIDs, the CT series first and then the radiograph."""

    uid: str
    series: tuple[str, ...]
    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Library:
    """A node that holds four studies by name."""

    node: Node
    studies: dict[str, Study]

    def names(self, answers: list[Dataset]) -> list[str]:
        by_uid = {study.uid: name for name, study in self.studies.items()}
        return [by_uid[answer.StudyInstanceUID] for answer in answers]

    def ask(self, asked: Dataset, **elements: str | bytes) -> tuple[Dataset, list[Dataset]]:
        """Add private elements by the names of their constants; return final status and answers."""
        if elements:
            BLOCK.reserve(asked)
        for name, value in elements.items():
            element = getattr(private, name)
            vr = "UN" if isinstance(value, bytes) else element.vr
            asked.add_new(BLOCK.tag(element), vr, value)
        statuses, answers = c_find(self.node.query_port, asked)
        return statuses[-1], answers


# Name, seeds of CT and radiograph, patient, sex, accession number.
STUDIES = (
    ("query", 1, 1, "A", "F", "ACC1"),
    ("same ct", 1, 8, "B", "M", "ACC2"),
    ("same dx", 9, 1, "C", "F", "ACC2"),
    ("prior", 1, 1, "A", "F", ""),
)
STUDY_OF_NOBODY = "1.2.3"
AGES = {"A": "040Y", "B": "008Y", "C": "030M"}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    folder = tmp_path_factory.mktemp("question")
    lifecycle = peers.QUICK | {"quiet_s_by_modality": {"US": 3600.0, "XA": 1.5}}
    answer = {"wait_s": WAIT_S, "decorate": True}
    node = Node(peers.quick_config(folder / "data", lifecycle=lifecycle, answer=answer))
    with peers.stopped_at_the_end(node):
        node.start()
        studies = {row[0]: push(folder / row[0], *row[1:]) for row in STUDIES}
        for name in studies:
            peers.dcmsend(node.port, folder / name)
        peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, len(studies)))
        yield Library(node, studies)


def push(folder: Path, ct: int, dx: int, patient: str, sex: str, accession: str) -> Study:
    """Write a study of a CT series of two slices and a radiograph."""
    new_uid = phantoms.uid_source(sum(folder.name.encode()))
    paths = phantoms.ct_series(
        folder, new_uid=new_uid, slices=2, size=64, seed=ct, patient_id=patient
    )
    paths.append(
        phantoms.still(folder, new_uid=new_uid, size=(64, 48), seed=dx, patient_id=patient)
    )
    datasets = [dcmread(path) for path in paths]
    for dataset, path in zip(datasets, paths, strict=True):
        dataset.StudyInstanceUID = datasets[0].StudyInstanceUID
        dataset.PatientSex, dataset.AccessionNumber = sex, accession
        dataset.PatientAge, dataset.InstitutionName = AGES[patient], f"Spital Zürich {patient}"
        dataset.SeriesDescription = f"Series of {patient}"
        dataset.PatientName = f"Müller^{patient}"
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.save_as(path)
    return Study(
        uid=datasets[0].StudyInstanceUID,
        series=(datasets[0].SeriesInstanceUID, datasets[-1].SeriesInstanceUID),
        instances=tuple(dataset.SOPInstanceUID for dataset in datasets),
    )


def test_an_accession_number_names_its_study(library: Library) -> None:
    final, answers = library.ask(identifier(StudyInstanceUID="", AccessionNumber="ACC1"))

    assert final.Status == 0x0000
    assert set(library.names(answers)) == {"same ct", "same dx"}


def test_an_accession_number_of_two_studies_is_refused_and_says_so(library: Library) -> None:
    final, answers = library.ask(identifier(StudyInstanceUID="", AccessionNumber="ACC2"))

    assert (final.Status, answers) == (0xA900, [])
    assert final.ErrorComment == "2 studies are named so, give a StudyInstanceUID"


def test_an_unknown_accession_number_is_like_nothing(library: Library) -> None:
    final, answers = library.ask(identifier(StudyInstanceUID="", AccessionNumber="ACC9"))

    assert (final.Status, answers) == (0x0000, [])


@pytest.mark.parametrize(("series", "nearest"), [(0, "same ct"), (1, "same dx")])
@pytest.mark.parametrize("by", ["series", "instance", "both with their study"])
def test_only_the_clips_of_the_series_or_image_named_are_compared(
    library: Library, series: int, nearest: str, by: str
) -> None:
    query = library.studies["query"]
    names = {"QUERY_SERIES": query.series[series], "QUERY_INSTANCE": query.instances[2 * series]}
    if by != "both with their study":
        names = {f"QUERY_{by.upper()}": names[f"QUERY_{by.upper()}"]}
    else:
        names["QUERY_STUDY"] = query.uid

    final, answers = library.ask(identifier(StudyInstanceUID=""), RANK="", **names)

    assert final.Status == 0x0000
    assert library.names(answers)[0] == nearest
    scores = [answer[BLOCK.tag(private.SCORE)].value for answer in answers]
    assert scores[0] == pytest.approx(1, abs=1e-3)
    assert scores[1] < 0.9999
    assert answers[0][BLOCK.tag(private.QUERY_STUDY)].value == query.uid


def test_below_study_level_the_best_series_and_image_of_each_case_are_the_answers(
    library: Library,
) -> None:
    query, nearest = library.studies["query"], library.studies["same dx"]
    asked = {"QUERY_SERIES": query.series[1]}

    _, series = library.ask(identifier("SERIES", SeriesInstanceUID="", Modality=""), **asked)
    _, images = library.ask(identifier("IMAGE", SOPInstanceUID="", SOPClassUID=""), **asked)

    assert (series[0].SeriesInstanceUID, series[0].Modality) == (nearest.series[1], "DX")
    assert images[0].SOPInstanceUID == nearest.instances[2]
    assert [answer.QueryRetrieveLevel for answer in (series[0], images[0])] == ["SERIES", "IMAGE"]


def test_below_study_level_without_an_example_it_is_an_ordinary_query(library: Library) -> None:
    case = library.studies["same dx"]

    final, answers = library.ask(
        identifier("SERIES", StudyInstanceUID=case.uid, SeriesInstanceUID="")
    )

    assert final.Status == 0x0000
    assert sorted(answer.SeriesInstanceUID for answer in answers) == sorted(case.series)


@pytest.mark.parametrize(
    ("keys", "private_keys", "expected"),
    [
        ({"PatientSex": "M"}, {}, ["same ct"]),
        ({"PatientSex": "O"}, {}, []),
        ({"PatientAge": "008Y"}, {}, ["same ct"]),
        ({"PatientAge": "002Y"}, {}, ["same dx"]),
        ({}, {"AGE_RANGE": "3-"}, ["same ct"]),
        ({}, {"AGE_RANGE": "2-8"}, ["same ct", "same dx"]),
        ({"InstitutionName": "SPITAL zürich b"}, {}, ["same ct"]),
        ({"InstitutionName": "Spital"}, {}, []),
        ({"StudyDescription": "*PHANTOM*"}, {}, ["same ct", "same dx"]),
        ({"StudyDescription": "of*phant B"}, {}, ["same ct"]),
        ({"StudyDescription": "Phantom", "SeriesDescription": "c of"}, {}, ["same dx"]),
        ({"StudyDescription": "knee"}, {}, []),
        ({}, {"EFFORT": "EXACT"}, ["same ct", "same dx"]),
        ({}, {"EFFORT": "FAST"}, ["same ct", "same dx"]),
        ({}, {"SCOPE": "ALL"}, ["prior", "same ct", "same dx"]),
        ({}, {"SCOPE": "OTHER_PATIENTS"}, ["same ct", "same dx"]),
        ({}, {"SCOPE": "SAME_MODALITY", "QUERY_SERIES": "ct"}, ["same ct", "same dx"]),
        ({}, {"SCOPE": "SAME_BODYPART"}, ["same ct", "same dx"]),
    ],
)
def test_filters_and_scopes(
    library: Library, keys: dict[str, str], private_keys: dict[str, str], expected: list[str]
) -> None:
    query = library.studies["query"]
    named = {"QUERY_STUDY": query.uid} | private_keys
    if "QUERY_SERIES" in named:
        named["QUERY_SERIES"] = query.series[0]

    asked = identifier(StudyInstanceUID="", Modality="", SpecificCharacterSet="ISO_IR 192", **keys)
    final, answers = library.ask(asked, **named)

    assert final.Status == 0x0000
    assert sorted(library.names(answers)) == expected
    if private_keys.get("SCOPE") == "SAME_MODALITY":
        assert {answer.Modality for answer in answers} == {"CT"}


def test_values_that_come_as_un_are_converted(library: Library) -> None:
    query = library.studies["query"]

    final, answers = library.ask(
        identifier(StudyInstanceUID=""),
        QUERY_STUDY=query.uid.encode() + b"\0" * (len(query.uid) % 2),
        MAXIMUM_RESULTS=b"\1\0",
    )

    assert (final.Status, library.names(answers)) == (0x0000, ["same ct"])


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"QUERY_STUDY": "1.2.*"}, "Query Study Instance UID is not one UID"),
        ({"QUERY_SERIES": "1.2\\1.3"}, "Query Series Instance UID is not one UID"),
        ({"SCOPE": "NEAR"}, "scopes are ALL, OTHER_PATIENTS, SAME_MODALITY, SAME_BODYPART"),
        ({"SCOPE": "SAME_MODALITY"}, "the example has no single modality, name one of its seri"),
        ({"EFFORT": "HARD"}, "efforts are FAST, NORMAL, EXACT"),
        ({"AGE_RANGE": "12-0"}, "Patient Age Range: the first age is above the last"),
        ({"AGE_RANGE": "young"}, "Patient Age Range: no age or range in years, as 12 or 0-12"),
        ({"MAXIMUM_RESULTS": b"\0\0"}, "Maximum Results is not a positive number"),
        ({"MAXIMUM_RESULTS": b"\1"}, "Maximum Results cannot be read as US"),
        ({"SCORE": b"0.5 "}, "Similarity Score cannot be read as FD"),
        ({"SCORE": b"\0\0\0\0\0\0\0\x40"}, "the minimum score is not between -1 and 1"),
        ({"QUERY_TEXT": "a knee"}, "words are switched off here, text.enabled is false"),
    ],
)
def test_a_private_key_that_makes_no_sense_is_refused_with_the_reason(
    library: Library, elements: dict[str, str | bytes], reason: str
) -> None:
    elements = {"QUERY_STUDY": library.studies["query"].uid} | elements

    final, answers = library.ask(identifier(StudyInstanceUID=""), **elements)

    assert (final.Status, answers) == (0xA900, [])
    assert final.ErrorComment.startswith(reason)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"PatientAge": "010M", "AGE_RANGE": "0-1"}, "PatientAge and a range of ages are one too"),
        ({"PatientAge": "0Y"}, "PatientAge is no age, as 045Y is"),
        ({"InstitutionName": "Spital*"}, "InstitutionName takes one value without wildcards"),
        ({"StudyDescription": "kn?e"}, "words of a description hold no ? and no backslash"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR AS")
def test_a_filter_that_makes_no_sense_is_refused_with_the_reason(
    library: Library, keys: dict[str, str], reason: str
) -> None:
    own = {name: keys.pop(name) for name in ("AGE_RANGE",) if name in keys}

    final, answers = library.ask(identifier(StudyInstanceUID=STUDY_OF_NOBODY, **keys), **own)

    assert (final.Status, answers) == (0xA900, [])
    assert final.ErrorComment.startswith(reason)


def test_private_keys_of_another_creator_are_told_apart_from_no_keys(library: Library) -> None:
    asked = identifier(StudyInstanceUID="")
    block = asked.private_block(0x0099, "SIMILIS 1", create=True)
    block.add_new(0x03, "UI", library.studies["query"].uid)

    final, _ = library.ask(asked)

    assert final.Status == 0xA900
    assert final.ErrorComment == "private keys need (0099,0010)=SIMILIS 01"


def test_decorated_answers_say_rank_and_score_in_words(library: Library) -> None:
    query = library.studies["query"]

    _, answers = library.ask(
        identifier(StudyInstanceUID=query.uid, StudyDescription="", StudyComments="")
    )

    assert answers[0].StudyDescription == "#01 1.000 Phantom"
    assert answers[1].StudyComments == "#02 1.000"


@pytest.mark.parametrize(
    ("requestor", "answered"),
    [(None, "ISO_IR 192"), ("ISO_IR 100", "ISO_IR 100"), ("ISO_IR 144", "ISO_IR 192")],
)
def test_answers_carry_the_character_set_that_their_values_need(
    library: Library, requestor: str | None, answered: str
) -> None:
    asked = identifier(StudyInstanceUID=library.studies["query"].uid, PatientName="")
    if requestor:
        asked.SpecificCharacterSet = requestor

    _, answers = library.ask(asked)

    assert str(answers[0].PatientName).startswith("Müller^")
    assert answers[0].SpecificCharacterSet == answered


def test_an_example_that_is_being_indexed_is_waited_for(library: Library, tmp_path: Path) -> None:
    loop = phantoms.cine(tmp_path, new_uid=phantoms.uid_source(900), frames=2, size=(64, 64))
    peers.dcmsend(library.node.port, loop)
    uid = dcmread(loop).StudyInstanceUID

    final, answers = library.ask(identifier(StudyInstanceUID=uid))

    assert (final.Status, answers) == (0xC001, [])
    library.node.catalogue.close_quiet(force=True)
    peers.wait_for("its vectors", lambda: library.ask(identifier(StudyInstanceUID=uid))[1])


def test_a_query_by_example_says_so_when_the_catalogue_cannot_be_read(library: Library) -> None:
    with library.node.catalogue.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE clip RENAME TO elsewhere")
    try:
        final, _ = library.ask(identifier(StudyInstanceUID=library.studies["query"].uid))
    finally:
        with library.node.catalogue.writing() as connection:
            connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO clip")

    assert final.Status == 0xA700
