"""The documents that a node makes, known again when an archive sends them back.

Known by what they say of their equipment (`answer.modules` writes it), not by rows: those are gone
once a study was forgotten, and another installation never had them. A document shows images of
other patients, or speaks of them: it must not become a case.
"""

from dicom_node import PRODUCT
from dicom_node.receive.header import read_elements
from dicom_node.text import is_uid
from index.records import Header

_EQUIPMENT = ("ManufacturerModelName", "DeviceSerialNumber")


def is_own(header: Header, dataset: bytes) -> bool:
    """Tell whether a node of any installation made an object; raises `NotUnderstood`."""
    if header.manufacturer != PRODUCT:
        return False
    model, serial_number = (
        str(read_elements(dataset, header.transfer_syntax_uid, _EQUIPMENT).get(keyword, ""))
        for keyword in _EQUIPMENT
    )
    return model == PRODUCT and is_uid(serial_number)  # the installation's, PS3.5 B.2
