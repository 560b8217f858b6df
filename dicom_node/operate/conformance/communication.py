"""Configuration, association policies, presentation contexts, and security."""

from collections.abc import Iterator

from pydantic import BaseModel
from pynetdicom import AE, PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION

from dicom_node.config import Destination
from dicom_node.contexts import Role
from dicom_node.operate.conformance.entities import (
    ENTITIES,
    SHIPPED,
    Entity,
    accepted_contexts,
    proposed_contexts,
)
from dicom_node.operate.conformance.markdown import Section, code, prose, section, table
from dicom_node.operate.conformance.statuses import status_codes
from dicom_node.operate.conformance.web_services import web_security
from dicom_node.settings import ENVIRONMENT_PREFIX

_STORAGE_ACCEPTED = {
    Role.STORAGE: """
        Storage is unrestricted: beside these contexts every context is accepted whose abstract
        syntax is a storage SOP class (annex), a private UID, or a UID that is no SOP class known to
        the node, whatever its transfer syntaxes are: the first one proposed is taken. Such an
        object is kept as it is; that says nothing about whether its pixels can be read.
        """,
    Role.QUERY: """
        For the storage sub-operations of a C-GET every storage context is accepted as well, under
        the rules of the storage listener, with the roles that the requestor proposes; of several
        transfer syntaxes in one of them an uncompressed one is taken. Of the AE
        titles of this listener only the one for query by example takes a C-STORE.
        """,
}


def configuration() -> Section:
    """Return AE titles, ports, and every parameter with its default."""
    return section(
        "Configuration",
        prose(
            f"""
            From defaults, `similis.toml`, environment variables (`{ENVIRONMENT_PREFIX}DICOM__PORT`)
            and flags, read once at start. LDAP is not used.
            """
        ),
        section(
            "AE titles and presentation addresses",
            table(
                ("application entity", "default AE title", "default port"),
                ((each.purpose, code(each.ae_title), each.port) for each in ENTITIES),
            ),
            "Remote AE titles, hosts and ports stand under `[destinations]` and `[peers]`.",
        ),
        section("Parameters", table(("parameter", "default", "meaning"), _parameters(SHIPPED, ""))),
        section(
            "Parameters of a destination or peer",
            table(("parameter", "default", "meaning"), _fields(Destination)),
        ),
    )


def _parameters(model: BaseModel, prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _parameters(value, f"{prefix}{name}.")
        else:
            yield code(f"{prefix}{name}"), _default(value), field.description or ""


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        default = "to be given" if field.is_required() else _default(field.default)
        yield code(name), default, field.description or ""


def _default(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {each:g}" for key, each in value.items())
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value in ("", ()) else str(value)


def network() -> Section:
    """Return how associations are negotiated, and what the statuses mean."""
    return section(
        "Network communication details",
        _association_policies(),
        *(_entity(entity) for entity in ENTITIES),
        _initiation(),
        status_codes(),
        section(
            "Physical network",
            "TCP/IP over whatever the operating system offers; IPv4 and IPv6 by `dicom.host`.",
        ),
    )


def _association_policies() -> Section:
    dicom, answer = SHIPPED.dicom, SHIPPED.answer
    own = AE()
    return section(
        "Association policies",
        table(
            ("parameter", "value"),
            (
                ("application context name", "1.2.840.10008.3.1.1.1"),
                ("implementation class UID", PYNETDICOM_IMPLEMENTATION_UID),
                ("implementation version name", PYNETDICOM_IMPLEMENTATION_VERSION),
                ("maximum PDU size as acceptor", f"{dicom.maximum_pdu_bytes} bytes"),
                ("maximum PDU size as requestor", f"{own.maximum_pdu_size} bytes"),
                ("simultaneous associations", f"{dicom.maximum_associations} per listener"),
                ("asynchronous operations", "none: one operation at a time"),
                ("silence that ends an association, as acceptor", f"{dicom.network_timeout_s:g} s"),
                ("silence that ends an association, as requestor", f"{answer.timeout_s:g} s"),
                ("role selection", "accepted for storage commitment and for storage"),
                ("SOP class extended negotiation", "none"),
                ("user identity negotiation", "none"),
            ),
        ),
    )


def _entity(entity: Entity) -> Section:
    return section(
        f"{code(entity.ae_title)}: association acceptance",
        prose(
            f"""
            Port {entity.port}. Another called AE title than those of the port is rejected (called
            AE title not recognised), and, if `dicom.calling_ae_titles` lists any, every calling
            AE title that is not in it. Beyond the number of simultaneous associations one is
            rejected (local limit exceeded). Presentation contexts accepted:
            """
        ),
        accepted_contexts(entity.role),
        prose(_STORAGE_ACCEPTED[entity.role]),
    )


def _initiation() -> Section:
    answer = SHIPPED.answer
    return section(
        "Association initiation",
        prose(
            f"""
            {code(ENTITIES[0].ae_title)} opens associations to destinations: one for a report with
            what goes out beside it, one for a storage commitment request, one for an answer about
            commitment. A failure is tried again after {answer.first_retry_s:g} s, then after twice
            as long up to {answer.longest_retry_s:g} s, {answer.attempts} times in all. Presentation
            contexts proposed, of the documents those that are sent:
            """
        ),
        proposed_contexts(),
        prose(
            f"""
            For a C-MOVE the AE title that was called, {", ".join(_retrieving())}, opens one
            association. It proposes, for each SOP class of
            the files selected, the transfer syntaxes in which they are kept and the uncompressed
            ones; Verification if nothing was selected.
            """
        ),
    )


def _retrieving() -> list[str]:
    return [code(entity.ae_title) for entity in ENTITIES if entity.role is Role.QUERY]


def security() -> Section:
    """Return what protects the node, and what does not."""
    dicom = SHIPPED.dicom
    return section(
        "Security",
        section("Security profiles", web_security()),
        section(
            "Association level",
            prose(
                f"""
                Both listeners bind to {code(dicom.host)} until configured otherwise. Called AE
                titles are checked always, calling ones if listed. Peers that are silent or send
                without end are cut off. C-MOVE has no destinations but those of the configuration.
                """
            ),
        ),
        section(
            "Application level",
            prose(
                """
                C-FIND answers hold the identifiers of other patients, as those of an archive do.
                Reports name other patients by keyed pseudonyms unless a destination is configured
                as `linked`. Logs hold UIDs and AE titles, no names. Received bytes are kept as they
                are, so that digital signatures stay valid; they are not verified.
                """
            ),
        ),
    )
