"""Files that are named on the command line and not kept, by the series they belong to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import ObjectRefused
from dicom_node.operate.sources import LeftOut, files_below
from dicom_node.receive.header import read_file_header
from index.records import Header


@dataclass(frozen=True, slots=True)
class GivenSeries:
    """The files of a series, and the header of the first."""

    header: Header
    files: tuple[Path, ...]


def given_series(paths: Sequence[Path]) -> tuple[list[GivenSeries], list[LeftOut]]:
    """Group files, and those in folders, by series; name what is no DICOM object."""
    headers: dict[str, Header] = {}
    files: dict[str, list[Path]] = {}
    left_out: list[LeftOut] = []
    for path in files_below(paths):
        if isinstance(path, LeftOut):
            left_out.append(path)
            continue
        try:
            header = read_file_header(path)
        except ObjectRefused as error:
            left_out.append(LeftOut(str(path), error.reason))
        except OSError as error:
            left_out.append(LeftOut(str(path), error.strerror or "cannot be read"))
        else:
            headers.setdefault(header.series_instance_uid, header)
            files.setdefault(header.series_instance_uid, []).append(path)
    return [GivenSeries(headers[uid], tuple(files[uid])) for uid in files], left_out
