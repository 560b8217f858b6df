"""Every error the node raises on purpose, as one tree.

    SimilisError                     the operator or the peer can do something about it
    ├── ConfigError                  the configuration cannot be used
    ├── DataFolderBusy               another process owns the data folder
    ├── NotKnown                     a study, file or destination that the node does not have
    ├── BackupRefused                a folder that cannot be backed up to or restored from
    ├── ObjectRefused                an object that intake does not take (DIMSE failure status)
    │   ├── NotUnderstood            its header cannot be read                      C000
    │   ├── BadIdentity              its UIDs are missing, no UIDs, or contradict   A900
    │   ├── OutOfResources           no room or no catalogue to keep it             A700
    │   └── NowhereToAnswer          sent as a query by no destination              0124
    ├── QueryRefused                 a C-FIND identifier that cannot be answered    A900
    ├── NotIndexed                   a study that nothing can be compared with (yet)
    ├── NoTextSpace                  words where no text space answers
    ├── SendFailed                   a destination did not take an object; tried again
    │   └── NotOffered               it accepts no context for what is sent or asked
    ├── CommitmentPending            a destination has not said that it keeps a report; asked again
    ├── GenerationUnfit              vectors by another model that may not answer
    ├── WorkerFailed                 the embedding process was lost over a series
    │   └── WordsFailed              … and the text process over a sentence; asked again later
    ├── WorkerBusy                   the process has other work; asked again later
    ├── WorkerUnavailable            no process that embeds or reads words can be started
    └── WorkerStopped                the node is going down; its job is claimed again

`encoder.errors.EncoderError` and `index.errors.CatalogueError` are the roots of the two floors,
which do not know this house.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydicom.uid import UID


class SimilisError(Exception):
    """The root; its text is one sentence for the operator and says what to do."""


class ConfigError(SimilisError):
    """A configuration value that cannot be used.

    `key` is dotted (`dicom.port`), `source` says where it came from; `others` are as wrong.
    """

    def __init__(
        self, key: str, source: str, reason: str, *, others: "Sequence[ConfigError]" = ()
    ) -> None:
        super().__init__("; ".join([f"{key} (from {source}): {reason}", *map(str, others)]))
        self.key = key
        self.source = source
        self.reason = reason


class DataFolderBusy(SimilisError):
    """Another process holds a lock of the data folder."""

    def __init__(self, folder: Path, holder: str = "a running node") -> None:
        super().__init__(
            f"{folder} is in use by {holder}; stop it first, or choose another --data folder"
        )
        self.folder = folder


class NotKnown(SimilisError):
    """Something asked for by name that the node does not have."""

    def __init__(self, what: str, name: str, advice: str) -> None:
        super().__init__(f"{what} {name} is not known here; {advice}")
        self.what = what
        self.name = name


class BackupRefused(SimilisError):
    """A folder that no backup can be written to, or none be restored from, for `reason`."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"backup {folder}: {reason}")
        self.folder = folder
        self.reason = reason


class ObjectRefused(SimilisError):
    """An object that intake does not take.

    `status` is the C-STORE failure status (PS3.4 Table B.2-1) the sender gets, `keyword` the
    attribute at fault, if one is.
    """

    status = 0xC000

    def __init__(self, reason: str, *, keyword: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.keyword = keyword


class NotUnderstood(ObjectRefused):
    """The header cannot be read: Error, Cannot understand (PS3.4 B.2.3)."""

    status = 0xC000


class BadIdentity(ObjectRefused):
    """UIDs missing, malformed or contradictory: Error, Data Set does not match SOP Class."""

    status = 0xA900


class OutOfResources(ObjectRefused):
    """Nothing can be kept now: Refused, Out of Resources; the sender may try again later."""

    status = 0xA700


class NowhereToAnswer(ObjectRefused):
    """Sent as a query by an AE that is no destination: Refused, Not Authorized (PS3.7 C.5.13)."""

    status = 0x0124


class QueryRefused(SimilisError):
    """A C-FIND identifier that cannot be answered (PS3.4 Table C.4-1, status A900)."""

    status = 0xA900

    def __init__(self, reason: str, *, keyword: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.keyword = keyword


class NotIndexed(SimilisError):
    """An example study that has no vectors; `state` is empty for a study that is unknown."""

    def __init__(self, study_instance_uid: str, state: str, *, is_coming: bool) -> None:
        reason = "is being indexed, ask again" if is_coming else f"is {state or 'not known here'}"
        super().__init__(f"study {study_instance_uid} {reason}")
        self.study_instance_uid = study_instance_uid
        self.state = state
        self.is_coming = is_coming


class NoTextSpace(SimilisError):
    """Cases are to be searched by words where no text space is of the `encoder` that answers.

    Without the id of that encoder they are switched off.
    """

    def __init__(self, encoder: str = "") -> None:
        reason = (
            f"no text space that can be used is of the encoder that answers, {encoder}: bind one "
            "with `similis train bind`, or change over with `similis reindex` to the encoder that "
            "the configured one is of"
        )
        off = "they are switched off, `text.enabled` is false"
        super().__init__(
            f"cases are not searched by words here: {reason if encoder else off}; or give an "
            "example study or image"
        )
        self.encoder = encoder

    @property
    def comment(self) -> str:
        """The same in 64 characters, of which the id of an encoder has 16."""
        if not self.encoder:
            return "words are switched off here, text.enabled is false"
        return f"no text space of encoder {self.encoder}: bind one, or reindex"


class SendFailed(SimilisError):
    """A destination did not take an object; the job is tried again later."""

    def __init__(self, destination: str, reason: str) -> None:
        super().__init__(f"{destination} did not take the object: {reason}")
        self.destination = destination
        self.reason = reason


class NotOffered(SendFailed):
    """A destination that accepts none of the SOP classes proposed to it."""

    def __init__(self, destination: str, sop_class_uids: Iterable[str]) -> None:
        self.sop_class_uids = tuple(sop_class_uids)
        names = ", ".join(sorted({UID(uid).name for uid in self.sop_class_uids}))
        super().__init__(destination, f"it does not accept {names}")


class CommitmentPending(SimilisError):
    """A destination has not said yet whether it keeps a report."""

    def __init__(self, destination: str) -> None:
        super().__init__(f"{destination} has not said yet whether it keeps the report")
        self.destination = destination


class GenerationUnfit(SimilisError):
    """Vectors by the model `model_id` that were not found in order, for `reason`."""

    def __init__(self, model_id: str, reason: str) -> None:
        super().__init__(
            f"the vectors by {model_id} may not answer: {reason}; the former ones go on"
        )
        self.model_id = model_id
        self.reason = reason


class WorkerFailed(SimilisError):
    """The embedding process died over a series, hung beyond its limit, or could not do it.

    `lost`: the process is gone; else it said why it could not.
    """

    def __init__(self, reason: str, *, lost: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lost = lost


class WordsFailed(WorkerFailed):
    """The same of the text process: no fault of what is asked, which may be asked again."""


class WorkerBusy(SimilisError):
    """The process that answers has work of the node to do, or too many wait for it."""

    def __init__(self) -> None:
        super().__init__("the process that answers this is busy, ask again")


class WorkerUnavailable(SimilisError):
    """No process beside the node can be started; nothing is wrong with what it is asked."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no process can be started: {reason}")
        self.reason = reason


class WorkerStopped(SimilisError):
    """The node is going down and ended the embedding process; nothing is wrong with the series."""

    def __init__(self) -> None:
        super().__init__("the node is stopping")
