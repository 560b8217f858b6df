"""`similis export-conformance`: the DICOM conformance statement."""

import typer


def export_conformance() -> None:
    """Print the DICOM conformance statement of this version, as Markdown."""
    from dicom_node.listener import prepare_dicom
    from dicom_node.operate.conformance.statement import conformance_statement

    prepare_dicom()
    typer.echo(conformance_statement(), nl=False)
