"""Coded concepts: private ones obey the rules, standard ones mean what the dictionary says."""

from pydicom.sr._concepts_dict import concepts as dictionary

from dicom_node.answer import codes


def test_private_codes_are_unique_and_fit() -> None:
    values = [code.value for code in codes.PRIVATE_CODES]
    assert len(set(values)) == len(values)
    assert all(len(value) <= 16 and code.scheme == codes.SCHEME
               for value, code in zip(values, codes.PRIVATE_CODES, strict=True))  # fmt: skip
    assert len(codes.SCHEME) <= 16
    assert codes.SCHEME.startswith("99")


def test_standard_codes_mean_what_pydicom_says() -> None:
    unknown = set()
    for concept in (c for c in vars(codes).values() if isinstance(c, codes.CodedConcept)):
        meanings = [
            entries[concept.value][0]
            for entries in dictionary.get(concept.scheme, {}).values()
            if concept.value in entries
        ]
        if not meanings:
            unknown.add(concept)
        elif concept is not codes.SOURCE:  # "Source (attribute)" there, "Source" in TID 1600
            assert concept.meaning in meanings
    assert unknown == {
        *codes.PRIVATE_CODES, codes.ENGLISH, codes.QUALITATIVE_EVALUATIONS, codes.PIXELS,
    }  # fmt: skip


def test_modalities_and_procedures_are_those_of_the_context_groups() -> None:
    for name in ("CT", "MR", "US", "OPT", "SM", "OT"):
        assert any(
            name in entries and entries[name][0] == codes.modality(name).meaning
            for entries in dictionary["DCM"].values()
        )
        procedure = codes.procedure_reported(name)
        assert any(
            procedure.value in entries and 100 in entries[procedure.value][1]
            for entries in dictionary[procedure.scheme].values()
        )
    assert codes.modality("??") == codes.modality("OT")
