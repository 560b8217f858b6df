"""The conformance statement: it is the generated one, and a live node does what it claims.

The claims are read from the document, not from the tables that it is made of.
"""

import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest
from pydicom.uid import UID, UID_dictionary
from pynetdicom import build_context, sop_class
from scripted import CT, association
from typer.testing import CliRunner

from dicom_node.answer import commitment, find, response, retrieve, scp
from dicom_node.cli.app import app
from dicom_node.listener import PROCESSING_FAILURE, UNABLE_TO_PROCESS
from dicom_node.node import Node
from dicom_node.receive import commitment as commitment_scp

STATEMENT = Path(__file__).parents[1] / "deploy" / "CONFORMANCE.md"
AE_TITLES = ("SIMILIS", "SIMILIS_FIND", "SIMILIS_TEXT", "SIMILIS_QR")
PRIVATE_STORAGE = "1.3.12.2.1107.5.9.1"
TRANSFER_SYNTAXES = sorted(
    uid for uid, (_, kind, *_) in UID_dictionary.items() if kind == "Transfer Syntax"
)
_MAXIMUM_CONTEXTS = 128

Context = tuple[str, str]


def test_the_statement_is_the_generated_one() -> None:
    said = CliRunner().invoke(app, ["export-conformance"])

    assert said.exit_code == 0
    if os.environ.get("UPDATE_GOLDEN"):
        STATEMENT.write_text(said.stdout, encoding="utf-8")
    assert said.stdout == STATEMENT.read_text(encoding="utf-8")


@pytest.mark.parametrize("ae_title", AE_TITLES)
def test_every_claimed_context_is_accepted_and_no_other_service(node: Node, ae_title: str) -> None:
    claimed = set(claimed_contexts(ae_title))
    services = sorted(services_known() | {sop for sop, _ in claimed})
    proposed = [(sop, syntax) for sop in services for syntax in TRANSFER_SYNTAXES]

    assert claimed <= set(proposed)
    assert negotiated(node, ae_title, proposed) == claimed


@pytest.mark.parametrize("ae_title", AE_TITLES)
def test_every_storage_class_of_the_annex_is_accepted(node: Node, ae_title: str) -> None:
    proposed = [(sop, syntax) for sop in storage_classes() for syntax in TRANSFER_SYNTAXES[:2]]

    assert len(proposed) > 300
    assert negotiated(node, ae_title, proposed) == set(proposed)


@pytest.mark.parametrize("sop", [CT, PRIVATE_STORAGE])
def test_storage_is_accepted_in_every_transfer_syntax(node: Node, sop: str) -> None:
    proposed = [(sop, syntax) for syntax in (*TRANSFER_SYNTAXES, f"{PRIVATE_STORAGE}.1")]

    assert negotiated(node, "SIMILIS", proposed) == set(proposed)


@pytest.mark.parametrize(
    "module", [commitment, commitment_scp, find, response, retrieve, scp], ids=lambda m: m.__name__
)
def test_every_status_of_the_program_is_in_the_statement(module: ModuleType) -> None:
    listed = set(re.findall(r"^\| ([0-9A-F]{4}) \|", STATEMENT.read_text("utf-8"), re.M))
    statuses = {
        value
        for name, value in vars(module).items()
        if type(value) is int and 0x100 <= value <= 0xFFFF and re.fullmatch("[A-Z][A-Z_]*", name)
    }

    assert statuses
    assert {f"{s:04X}" for s in (*statuses, PROCESSING_FAILURE, UNABLE_TO_PROCESS)} <= listed


def claimed_contexts(ae_title: str) -> list[Context]:
    """Return abstract and transfer syntaxes that the statement claims for an AE, storage aside."""
    rows = re.findall(
        r"^\| [^|]+ \| ([\d.]+) \| [^|]+ \| ([\d.]+) \| SCP",
        part(f"`{ae_title}`: association acceptance"),
        re.M,
    )
    assert rows
    return [(sop, syntax) for sop, syntax in rows]


def storage_classes() -> list[str]:
    """Return the storage SOP classes that the statement lists."""
    return re.findall(r"^\| [^|]+ \| ([\d.]+) \|", part("Storage SOP classes"), re.M)


def part(title: str) -> str:
    """Return the text below a heading of the statement, to the next heading."""
    text = STATEMENT.read_text(encoding="utf-8")
    found = re.search(rf"^#+ \S+( [A-Z])? {re.escape(title)}$(.*?)(?=^#|\Z)", text, re.M | re.S)
    assert found, title
    return found[2]


def services_known() -> set[str]:
    """Return every SOP class of a service other than storage."""
    known = {str(v) for v in vars(sop_class).values() if isinstance(v, UID)}
    return known - set(storage_classes())


def negotiated(node: Node, ae_title: str, proposed: Sequence[Context]) -> set[Context]:
    """Return what the live node accepts of the contexts proposed, each in a context of its own."""
    port = node.port if ae_title == "SIMILIS" else node.query_port
    accepted: set[Context] = set()
    for some in batches(proposed):
        # Without an accepted context there is no association: one that is known goes along.
        contexts = [build_context("1.2.840.10008.1.1"), *(build_context(*each) for each in some)]
        with association(port, contexts, called=ae_title) as opened:
            accepted |= {
                (str(each.abstract_syntax), str(each.transfer_syntax[0]))
                for each in opened.accepted_contexts
                if each.context_id != 1
            }
    return accepted


def batches(proposed: Sequence[Context]) -> Iterator[list[Context]]:
    each = iter(proposed)
    while some := list(islice(each, _MAXIMUM_CONTEXTS - 1)):
        yield some
