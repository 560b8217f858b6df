"""What the services do: storage, storage commitment, query by example, query, retrieval."""

from collections.abc import Iterable, Iterator

from pydicom.datadict import dictionary_description, dictionary_VR, tag_for_keyword
from pydicom.tag import Tag

from dicom_node.answer import private
from dicom_node.answer.identifier import LEVELS, MODALITIES_IN_STUDY, UNIQUE_KEYS
from dicom_node.answer.question import EXAMPLES
from dicom_node.answer.response import COMPUTED, FILTERS
from dicom_node.config import Scope
from dicom_node.contexts import Role, services
from dicom_node.operate.conformance.entities import ENTITIES, SHIPPED, named
from dicom_node.operate.conformance.markdown import Section, code, prose, section, table
from dicom_node.operate.conformance.web_services import web_services
from dicom_node.receive.rejection import CONSEQUENCES, KEY_OBJECT_SELECTION
from encoder.wordpiece import MAX_CHARACTERS
from index.attributes import ATTRIBUTES, Level
from index.criteria import matching

_AGAIN = {True: "yes", False: "with other bytes"}
_SIMILAR, _WORDS, _ORDINARY = (entity.ae_title for entity in ENTITIES[1:])

_SCOPES = {
    Scope.ALL: "the example's own patient too",
    Scope.OTHER_PATIENTS: "other patients only; the default",
    Scope.SAME_MODALITY: "other patients, the modality of the example's series",
    Scope.SAME_BODY_PART: "other patients, the body part of the example's series",
}


def supported_services() -> Section:
    """Return what each service does for its user."""
    return section(
        "Service and interoperability description",
        section(
            "Services of the application entities", table(("AE title", "services"), _services())
        ),
        _verification(),
        _storage(),
        _commitment(),
        _similarity(),
        _words(),
        _ordinary_query(),
        _retrieval(),
        section("DICOM web services", *web_services()),
        section("Media storage services", "None."),
    )


def _services() -> Iterator[tuple[str, str]]:
    for entity in ENTITIES:
        own = [named(service.sop_class_uid)[0] for service in services(entity.role)]
        storage = ["Storage"] if entity.role is Role.STORAGE else []
        yield code(entity.ae_title), ", ".join([*storage, *own])


def _verification() -> Section:
    return section("Verification", "SCP on every application entity; answered at once.")


def _storage() -> Section:
    limits = SHIPPED.storage
    return section(
        "Storage",
        prose(
            f"""
            SCP of level 2 (full): every attribute is kept, private ones included, byte for byte;
            nothing is coerced, decoded or compressed. Success means that the object and its row are
            on disk. The same bytes again change nothing; other bytes under a known SOP Instance UID
            are kept beside the first, and the newest are the ones that are used. An object of more
            than {limits.maximum_object_mb} MiB is cut off. Objects without an image that can be
            decoded are kept and can be found and retrieved; no case is made of them. Documents
            that a node of this kind made are answered with Success and not kept.

            A Key Object Selection Document ({KEY_OBJECT_SELECTION}) with one of these titles takes
            the instances it names out of every query, retrieval and ranking before it is answered
            (IHE RAD TF-3 4.66). Those that are kept as part of another study than it says, or of
            a patient with another Patient ID, are left. `storage.rejection_notes` switches this
            off:
            """
        ),
        table(
            ("title", "meaning", "taken again when sent again", "files"),
            (
                (
                    f"({title}, DCM)",
                    each.meaning,
                    "no" if each.lasting else _AGAIN[each.erased],
                    "erased" if each.erased else "kept",
                )
                for title, each in CONSEQUENCES.items()
            ),
        ),
        _sent_and_guests(),
    )


def _sent_and_guests() -> str:
    return prose(
        f"""
        {code(_SIMILAR)} takes objects as a query that is not kept, from a sender that is a
        destination in the configuration: the report goes to that sender alone, nobody finds the
        study, and it is deleted {SHIPPED.answer.guest_minutes:g} minutes after.

        SCU: reports and what goes out beside them are sent to every configured destination,
        and again until they are taken, under the same SOP Instance UIDs. A report goes out in
        the first of its SOP classes that the destination accepts. A document beside it that the
        destination does not accept is left out.
        """
    )


def _commitment() -> Section:
    return section(
        "Storage commitment",
        prose(
            f"""
            Push model. As SCP the node promises an instance after it has read row, file and every
            byte of it. The answer comes on the association that asked while it is open and silent,
            else on a new one to the address that the configuration has for the asking AE title. As
            SCU the node asks every destination that has `commitment` set for the objects it sent.
            The answer is taken on the same association or on a later one. What the destination
            lacks is sent again; without an answer it is asked again after
            {SHIPPED.answer.commitment_wait_s:g} s, then after twice as long each time.
            """
        ),
    )


def _similarity() -> Section:
    answer = SHIPPED.answer
    return section(
        f"Query by example (C-FIND on {code(_SIMILAR)})",
        prose(
            f"""
            Standard Extended SOP class of {named(services(Role.QUERY)[1].sop_class_uid)[0]}: the
            private keys of the block `{private.CREATOR}` (annex) name the example and limit the
            answer. Responses come in order of rank, at most {answer.k} unless Maximum Results asks
            for up to {answer.maximum_k}. They hold the keys that were requested and, if the request
            reserved the private block, rank, score and what was compared.

            The example is named by {_listed(element.name for element in EXAMPLES)}, or by plain
            Study Instance UID or Accession Number at STUDY level. That last way is not single value
            matching: the study of the key is the example, and others are the answer. At SERIES and
            IMAGE level the answer is the series or image of each case that matches best; there a
            query without private keys is an ordinary one. An example that is being indexed is
            waited for {answer.wait_s:g} s. Without similar studies there is no match, as for an
            unknown example.

            These standard keys limit the cases, a case that lacks the attribute is left out; all
            others are returned only. Words are parted by
            spaces or `*`, so that what matches a single value, or one between wildcards, is among
            the answers. Patient Age Range is private, for there is no range matching of ages: years
            as `45`, `0-12`, `65-` or `-12`; the age is that of Patient's Age or by the dates of
            birth and study. Search Effort is `FAST`, `NORMAL` (the default) or `EXACT`, with which
            every case is compared.
            """
        ),
        table(
            ("attribute", "tag", "matching"),
            ((*_attribute(keyword), FILTERS[keyword]) for keyword in sorted(FILTERS, key=Tag)),
        ),
        "Similarity Scope takes these values:",
        table(("value", "cases"), ((code(scope), _SCOPES[scope]) for scope in Scope)),
    )


def _words() -> Section:
    return section(
        f"Query by words (C-FIND on {code(_WORDS)})",
        prose(
            f"""
            At STUDY level Study Description is one sentence in English, of at most {MAX_CHARACTERS}
            characters, which the cases are to be; it is no matching key and has no wildcards
            (asterisks around it are left out). {code(_SIMILAR)} takes the same in the private key
            Query Text, at every level. All else is as in the query by example: filters, limits,
            responses. Study Description is an LO, which a requestor may cut at 64 characters; Query
            Text is a UT. An example may go with the words: then the scores of both are mixed, and
            none is asked that has no share; the share of the words is
            {SHIPPED.text.weight:g} (`text.weight`). Below STUDY level a query without private keys
            is an ordinary one.

            The score is the cosine that two unrelated images have as rarely as words and image have
            theirs. The text space knows the words that it was made with. Where others are among
            them, a negation, or words of different modalities, the matches are doubtful; the more
            words are unknown, the nearer the best case has to be, else there is no match, nor where
            no word is known, or no modality was learned with a body part and a method that are
            named (hip x-ray, where x-rays of the chest were): query and retrieve finds those by
            their headers. Matches are of modalities that were learned with such pictures. Beside an
            example words take no match away, and near-duplicates are matches of their own; words
            that say nothing then have no share, and the answer is that of the example. The final
            response is success with an Error Comment, which repeats no word; so it is while vectors
            for words are still being made, when cases may be missing. A text without a word, not in
            Latin letters, or too long is refused; control characters are left out. No word of a
            query is logged or kept. A node without a text space of its encoder refuses words.
            """
        ),
    )


def _ordinary_query() -> Section:
    return section(
        f"Query (C-FIND on {code(_ORDINARY)})",
        prose(
            f"""
            Study Root, levels {_listed(LEVELS)}; hierarchical, without relational queries and
            without fuzzy matching. The unique keys of the levels above must be given, as one UID or
            a list. Several values of a key are alternatives. Text is compared with its capitals,
            except for names, of which a component group is enough. Keys of the levels above are
            returned below. A key that is not in these tables is returned empty, and one with a
            value is not matched; the status of the responses then says so. A C-CANCEL ends the
            responses. Reports of the node itself are not listed.
            """
        ),
        table(
            ("attribute", "tag", "VR", "level", "matching"),
            (
                (*_attribute(a.keyword), a.vr, _level(a.keyword, a.level), matching(a.vr))
                for a in ATTRIBUTES
            ),
        ),
        "Computed for each response:",
        table(
            ("attribute", "tag", "VR", "level", "matching"),
            (
                (
                    *_attribute(keyword),
                    dictionary_VR(Tag(keyword)),
                    level,
                    "list of values" if keyword == MODALITIES_IN_STUDY else "not matched",
                )
                for keyword, (level, _) in COMPUTED.items()
            ),
        ),
    )


def _retrieval() -> Section:
    return section(
        "Retrieval (C-MOVE, C-GET)",
        prose(
            f"""
            Study Root on {code(_SIMILAR)}, {code(_WORDS)} and {code(_ORDINARY)} alike: the unique
            keys down to the level of the request, each one UID or a list. A study is sent with the
            newest reports that the node made of it. Files go out byte for byte in the transfer
            syntax in which they are kept; in another uncompressed encoding, or decompressed, where
            the peer takes only that. Colour is decompressed to RGB, an icon image is left out, and
            what is lossy stays marked so. Where a requestor of a C-GET proposes several transfer
            syntaxes in one presentation context, an uncompressed one is chosen, save for videos:
            one context for each transfer syntax gets the kept bytes. Videos, deflated objects and
            those of more than 1 GiB of pixels are not decompressed: the sub-operation fails then. A
            C-MOVE sends only to destinations and peers of the configuration, whatever address it
            comes from.
            """
        ),
    )


def _attribute(keyword: str) -> tuple[str, str]:
    tag = Tag(tag_for_keyword(keyword) or 0)
    return dictionary_description(tag), str(tag).replace(", ", ",")


def _level(keyword: str, level: Level) -> str:
    return f"{level}, unique key" if keyword in UNIQUE_KEYS.values() else str(level)


def _listed(names: Iterable[str]) -> str:
    """Return names as an enumeration."""
    *first, last = names
    return f"{', '.join(first)} or {last}"
