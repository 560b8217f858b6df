"""The kept objects that a path names, for every route that hands out some of them."""

from fastapi import HTTPException

from dicom_node.answer.retrieve import KeptFile
from dicom_node.web.service import WebService
from index.matching import Selection


def kept_files(
    service: WebService, study: str, series: str = "", instance: str = "", *, own: bool = True
) -> list[KeptFile]:
    """Return the files of a study, series or instance; raises `HTTPException` 404 for none.

    Without `own` the reports of the node, and what goes out beside them, are left out.
    """
    selection = Selection(
        studies=(study,),
        series=(series,) if series else (),
        images=(instance,) if instance else (),
    )
    retrieve = service.retrieve
    files = retrieve.files(selection) if own else retrieve.kept(selection)
    if not files:
        what = ("instance" if instance else "series" if series else "study", "of that name")
        raise HTTPException(404, f"no {' '.join(what)} is kept here")
    return files


def kept_file(service: WebService, study: str, series: str, instance: str) -> KeptFile:
    """Return the file of one instance; raises `HTTPException` 404."""
    return kept_files(service, study, series, instance)[0]
