"""Pseudonyms: stable, keyed, valid as UIDs, and apart by purpose."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.answer.pseudonym import Pseudonymised, pseudonym, pseudonymous_uid

SECRET = bytes(range(32))
OTHER_SECRET = bytes(range(1, 33))
UID = "1.2.840.113619.2.55.3.604688"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_identifier_gets_a_valid_uid_and_a_readable_name(identifier: str) -> None:
    uid = pseudonymous_uid(SECRET, identifier)
    assert re.fullmatch(r"2\.25\.(0|[1-9][0-9]{0,38})", uid)
    assert int(uid.removeprefix("2.25.")) < 2**128
    assert re.fullmatch(r"R-[0-9A-F]{8}", pseudonym(SECRET, Pseudonymised.CASE, identifier))


@given(st.lists(st.text("0123456789.", min_size=1), min_size=2, max_size=20, unique=True))
def test_different_identifiers_get_different_uids(identifiers: list[str]) -> None:
    assert len({pseudonymous_uid(SECRET, uid) for uid in identifiers}) == len(identifiers)


def test_the_same_identifier_always_gets_the_same_pseudonym() -> None:
    # Written down: reports already sent must keep their meaning after an upgrade.
    assert pseudonym(SECRET, Pseudonymised.CASE, UID) == "R-BEF7869D"
    assert pseudonymous_uid(SECRET, UID) == "2.25.85927710288100232984447199249508296892"


def test_another_secret_gives_other_pseudonyms() -> None:
    assert pseudonymous_uid(SECRET, UID) != pseudonymous_uid(OTHER_SECRET, UID)
    assert pseudonym(SECRET, Pseudonymised.CASE, UID) != pseudonym(
        OTHER_SECRET, Pseudonymised.CASE, UID
    )


def test_case_and_patient_of_the_same_identifier_cannot_be_linked() -> None:
    case = pseudonym(SECRET, Pseudonymised.CASE, UID)
    patient = pseudonym(SECRET, Pseudonymised.PATIENT, UID)
    assert case.removeprefix("R-") != patient.removeprefix("P-")


def test_no_pseudonym_is_a_bare_hash() -> None:
    bare = hashlib.sha256(UID.encode()).hexdigest().upper()
    assert pseudonym(SECRET, Pseudonymised.CASE, UID).removeprefix("R-") not in bare


@pytest.mark.parametrize("length", [0, 15])
def test_a_secret_that_can_be_guessed_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"{length} bytes"):
        pseudonymous_uid(bytes(length), UID)
