import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.abbreviations import END, table, write_out

UNKNOWN = st.from_regex(r"[a-z]{3,8}q[0-9]{2}", fullmatch=True)
KEYS = st.sampled_from(sorted(table())).map(lambda key: " ".join(key).replace(END, ""))
SEPARATORS = st.sampled_from([" ", "_", "/", "^", "-", "  ", ", ", "|", ".", "+"])


@pytest.mark.parametrize(
    ("description", "written"),
    [
        ("THX", "thorax"),
        ("ABD W/O", "abdomen without contrast"),
        ("CXR PA", "chest x-ray posteroanterior"),
        ("CXR PA/LAT 2V", "chest x-ray posteroanterior lateral two views"),
        ("C-SPINE", "cervical spine"),
        ("C SPN", "cervical spine"),
        ("W CONTRAST", "with contrast"),
        ("LT", "left"),
        ("CT ABD/PELVIS W/WO CONTRAST", "ct abdomen pelvis without and with contrast"),
        ("MRI BRAIN W/O & W", "mri brain without and with contrast"),
        ("HEAD W/O ROTATION", "head without rotation"),
        ("CT A/P W/O IV CON 1.5 mm", "ct abdomen and pelvis without intravenous contrast 1.5 mm"),
        ("Thorax^1_WB (Adult)", "thorax 1 whole body adult"),
        ("AX_T2_FLAIR", "axial t2 fluid attenuated inversion recovery"),
        ("B-lines, COVID-19", "b-lines covid-19"),
        ("Schädel nativ", "schädel nativ"),
        ("胸部 \U0001fac1", "胸部 \U0001fac1"),
        ("\x00\t_ ^", ""),
        ("", ""),
    ],
)
def test_descriptions_are_written_out(description: str, written: str) -> None:
    assert write_out(description) == written


def test_every_abbreviation_has_a_word_that_no_meaning_has() -> None:
    """Else replacing would not come to an end."""
    said = {word for meaning in table().values() for word in re.findall(r"[a-z0-9]+", str(meaning))}
    assert [key for key in table() if said.issuperset(set(key) - {END})] == []


def test_every_meaning_stays_as_it_is() -> None:
    for meaning in table().values():
        assert write_out(" ".join(meaning)) == " ".join(meaning)


def test_every_abbreviation_means_what_the_table_says() -> None:
    for key, meaning in table().items():
        assert write_out(" ".join(key).removesuffix(END).upper()).startswith(meaning[0])


@given(st.one_of(st.text(max_size=60), st.lists(st.one_of(KEYS, SEPARATORS)).map("".join)))
def test_writing_out_twice_changes_nothing(description: str) -> None:
    once = write_out(description)
    assert write_out(once) == once
    assert once == once.strip()


@given(st.lists(st.tuples(SEPARATORS, st.one_of(UNKNOWN, KEYS)), max_size=8))
def test_unknown_words_stay_in_their_order(parts: list[tuple[str, str]]) -> None:
    written = write_out("".join(separator + word.upper() for separator, word in parts))
    unknown = [word for _, word in parts if re.fullmatch(r"[a-z]{3,8}q[0-9]{2}", word)]
    assert re.findall(r"[a-z]{3,8}q[0-9]{2}", written) == unknown
