"""What the statement begins with: overview, introduction, implementation model."""

from dicom_node import PRODUCT
from dicom_node.contexts import SERVICES
from dicom_node.operate.conformance.entities import DOCUMENTS, ENTITIES, SHIPPED, named
from dicom_node.operate.conformance.markdown import Section, code, prose, section, table

_DATA_FLOW = """
```
modality, PACS ── C-STORE, N-ACTION ─────▶ {0:<13} ─▶ files, catalogue ─▶ vectors
PACS          ◀── C-STORE, N-ACTION ────── {0:<13} ◀─ report ◀─ ranking for a complete study
workstation    ── C-FIND by example ─────▶ {1:<13} ◀─ ranking for the example
workstation    ── C-FIND by words ───────▶ {2:<13} ◀─ ranking for the sentence
workstation    ── C-FIND, C-MOVE, C-GET ─▶ {3:<13} ◀─ rows and files
```
"""


def overview() -> Section:
    """Return the overview: what is supported, on one page."""
    return section(
        "Overview",
        prose(
            f"""
            {PRODUCT} is a DICOM node beside a PACS. It takes studies in, makes vectors of their
            images, and answers which earlier studies look like a given one: as a Structured Report
            that it sends, and as the answer to a C-FIND. This statement follows the template of
            PS3.2 Annex N. The program writes it from the tables that it runs by
            (`similis export-conformance`).
            """
        ),
        section(
            "Network services", table(("SOP class", "SOP class UID", "SCU", "SCP"), _network())
        ),
        section("Media services", "None. `similis import` reads PS3.10 files, but no DICOMDIR."),
        section("Web services", "See DICOM web services below."),
    )


def _network() -> list[tuple[str, ...]]:
    scp = {service.sop_class_uid: service.as_scu for service in SERVICES}
    provided = [(*named(uid), "yes" if both else "no", "yes") for uid, both in scp.items()]
    created = [(*named(uid), "yes", "yes") for uid in DOCUMENTS]
    others = ("Every other storage SOP class, private ones included", "", "in retrieval", "yes")
    return [*provided, *created, others]


def introduction() -> Section:
    """Return for whom the statement is, and what it does not say."""
    return section(
        "Introduction",
        section(
            "Audience",
            "Those who connect the node to archives, modalities and workstations. Readers are "
            "expected to know DICOM.",
        ),
        section(
            "Remarks",
            prose(
                """
                Conformance does not guarantee that two systems work together: compare statements
                and test. The node is no medical device, and its reports are no diagnosis. Values
                that can be configured are told as they are shipped; a site's own are printed by
                `similis config`.
                """
            ),
        ),
        section(
            "Terms",
            table(
                ("term", "meaning"),
                (
                    ("example", "the study, series or image that others are compared with"),
                    ("text space", "vectors that sentences and images have in common"),
                    ("case", "an earlier study that looks like the example, or is as said"),
                    ("score", "cosine of two unit vectors, from -1 to 1"),
                    ("destination", "a peer that is sent the reports"),
                ),
            ),
        ),
    )


def implementation_model() -> Section:
    """Return what the application entities do, and in which order."""
    flow = _DATA_FLOW.strip().format(*(entity.ae_title for entity in ENTITIES))
    return section(
        "Implementation model",
        section("Application data flow", flow),
        section(
            "Functional definition of the application entities",
            table(
                ("AE title", "what it does"),
                ((code(entity.ae_title), entity.purpose) for entity in ENTITIES),
            ),
            "All of them are one program; the latter three share a port and are told apart by the "
            "called AE title.",
        ),
        section(
            "Sequencing of activities",
            "\n".join(f"{number}. {step}" for number, step in enumerate(_steps(), start=1)),
        ),
    )


def _steps() -> tuple[str, ...]:
    lifecycle = SHIPPED.lifecycle
    return (
        "C-STORE is answered when the object and its row are on disk.",
        f"A series is complete after {lifecycle.series_quiet_s:g} s without a new object (some "
        f"modalities wait longer), a study after {lifecycle.study_quiet_s:g} s, both after "
        f"{lifecycle.cap_s:g} s at the latest. The vectors of a complete series are made.",
        "A complete study that was pushed is reported to every destination.",
        "A destination that has taken all objects is asked for storage commitment.",
        "A later object of the study begins anew; a report is issued again only where the ranking "
        "has changed, and names its predecessor.",
    )
