import re

from encoder.abbreviations import write_out
from training.terms import LEFT_OUT, TAGS, abbreviation_pairs, counts, pairs, terms


def test_names_of_one_thing_are_paired() -> None:
    found = {frozenset(pair) for pair in pairs(terms())}
    for pair in [
        ("AV Fistula", "arteriovenous fistula"),
        ("ACE inhibitor", "Angiotensin-converting enzyme inhibitor agent"),
        ("Lesser trochanter", "lesser trochanter of femur"),
        ("Brain MRI", "MRI Head Report"),
        ("Bazett QT Correction Algorithm", "Bazett QTc Algorithm"),
    ]:
        assert frozenset(pair) in found


def test_there_are_thousands_of_names_and_pairs() -> None:
    """Fewer would mean that the dictionaries are read wrongly; newer editions have more."""
    codes, names, paired = map(sum, zip(*counts().values(), strict=True))
    assert (codes > 10_000, names > 12_000, paired > 2_000) == (True, True, True)


def test_no_pair_says_the_same_twice() -> None:
    found = pairs(terms())
    assert [pair for pair in found if pair[0].casefold() == pair[1].casefold()] == []
    assert len(set(found)) == len(found)


def test_names_are_clean() -> None:
    names = [name for term in terms() for name in term.names]
    assert [name for name in names if not name or name != " ".join(name.split())] == []
    tags = re.compile(rf"\(({'|'.join(map(re.escape, TAGS))})\)$")
    assert [name for name in names if tags.search(name)] == []
    assert [name for name in names if re.match(r"structure of |entire ", name, re.I)] == []
    assert set(TAGS) > LEFT_OUT


def test_breeds_are_left_out() -> None:
    assert not [term for term in terms() if any(re.search(r"breed\b", name) for name in term.names)]


def test_abbreviations_are_paired_with_their_meaning() -> None:
    found = dict(abbreviation_pairs())
    assert found["C SPINE"] == "cervical spine"
    assert all(write_out(meaning) == meaning for meaning in found.values())
    assert all(short == short.strip() for short in found)
