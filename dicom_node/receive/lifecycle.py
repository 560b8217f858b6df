"""Quiet timers: when nothing came for a while, a series is embedded and a study reported.

No signal in DICOM says that a study is complete, so silence must: per series and per study, with
a cap that a trickle cannot exceed. The deadlines are rows of the catalogue: a node that was down
goes on with them, and looking twice changes nothing.
"""

from dicom_node.config import Lifecycle
from index.catalogue import Catalogue
from index.records import QuietRule


def quiet_rule(timers: Lifecycle, modality: str, *, report: bool = True) -> QuietRule:
    """Return how long silence must last for a series of this modality, and for its study.

    Without `report` no timer of the study is wound, so that its silence asks for none.
    """
    return QuietRule(
        series_s=timers.quiet_s_by_modality.get(modality, timers.series_quiet_s),
        study_s=timers.study_quiet_s if report else None,
        cap_s=timers.cap_s,
    )


def close_what_is_quiet(catalogue: Catalogue, *, force: bool = False) -> bool:
    """Close the series, studies and inquiries whose time has come (`force`: all); say if any."""
    closed = catalogue.close_quiet(force), catalogue.close_studies(force)
    return sum(closed) + catalogue.close_inquiries(force) > 0
