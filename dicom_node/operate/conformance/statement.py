"""The conformance statement as a whole, in the order of PS3.2 Annex N."""

from string import ascii_uppercase

from dicom_node import PRODUCT
from dicom_node.operate.conformance.annexes import annexes
from dicom_node.operate.conformance.communication import configuration, network, security
from dicom_node.operate.conformance.introduction import (
    implementation_model,
    introduction,
    overview,
)
from dicom_node.operate.conformance.markdown import contents, numbered, section
from dicom_node.operate.conformance.services import supported_services


def conformance_statement() -> str:
    """Return the statement in Markdown."""
    chapters = (
        introduction(),
        implementation_model(),
        supported_services(),
        configuration(),
        network(),
        security(),
    )
    letters = [f"Annex {letter}" for letter in ascii_uppercase]
    first, rest = overview(), range(3, 3 + len(chapters))
    listed = "\n".join(
        (contents([first], [1]), contents(chapters, rest), contents(annexes(), letters))
    )
    parts = (
        f"# {PRODUCT}: DICOM Conformance Statement",
        *numbered([first, section("Contents", listed)], (1, 2)),
        *numbered(chapters, rest),
        *numbered(annexes(), letters),
    )
    return "\n\n".join(parts) + "\n"
