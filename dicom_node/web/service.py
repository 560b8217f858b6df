"""What the routes answer from, and the parameters that several of them take."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from fastapi import Path as PathParameter
from pydantic import AfterValidator

from dicom_node.answer.find import FindService
from dicom_node.answer.retrieve import RetrieveService
from dicom_node.receive.intake import Intake
from dicom_node.receive.turns import Caller
from dicom_node.receive.worker import Worker
from dicom_node.text import is_uid

# What is asked of the embedding process over HTTP: a picture, and the vectors of posted files.
PICTURE = Caller(wait_s=20.0, limit_s=30.0)
EXAMPLE = Caller(wait_s=60.0, limit_s=120.0)


@dataclass(frozen=True, slots=True)
class WebService:
    """Where answers come from; `uploads` is the folder that bodies of requests pass through."""

    find: FindService
    retrieve: RetrieveService
    intake: Intake
    worker: Worker
    uploads: Path
    maximum_upload_bytes: int
    maximum_object_bytes: int
    minimum_free_bytes: int


def _service(request: Request) -> WebService:
    service: WebService = request.app.state.service
    return service


def _uid(value: str) -> str:
    if not is_uid(value):
        raise ValueError("it is not a UID")
    return value


Service = Annotated[WebService, Depends(_service)]
Uid = Annotated[str, PathParameter(max_length=64), AfterValidator(_uid)]
