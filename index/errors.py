"""Every error of the `index` house, as one tree.

    CatalogueError
    ├── DatabaseUnavailable     the database cannot be opened, read or written
    │   ├── CatalogueFull       … because there is no room left
    │   └── Overtaken           … because another transaction got in the way, again and again
    ├── ExtensionMissing        PostgreSQL has no pgvector, or too old a one
    ├── SchemaMismatch          the database was written by another version of Similis
    ├── TargetNotEmpty          a catalogue is to be moved into a database that holds one
    ├── TransferDiffers         … and did not arrive as it left
    ├── UnknownTransition       an event that a state does not allow (a programming error)
    ├── UnknownKey              no row has this key (any more)
    ├── KeptElsewhere           an instance of a guest that a kept study already has
    ├── OtherGeneration         vectors of a model that does not answer (any more)
    ├── UnknownGeneration       no generation is by this model
    ├── UnknownSpace            a text space that is not noted (any more)
    ├── BadVector               a vector that may not enter: wrong length, not finite, not unit
    ├── BadQuery                a search that cannot be answered as asked
    └── IndexNotSaved           the vector file could not be written; the catalogue is unharmed

No message carries patient data: database errors are reported without their parameters.
"""

from __future__ import annotations

from pathlib import Path


class CatalogueError(Exception):
    """Root of the house: everything `index` raises on purpose."""


class DatabaseUnavailable(CatalogueError):
    """The database at `url` (shown without its password) refused, for `reason`."""

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(f"The database {url} cannot be used: {reason}. {self.advice}")

    advice = "Check that it exists, is running and may be written by this user."


class CatalogueFull(DatabaseUnavailable):
    """The database has no room left."""

    advice = "Free space on its disk, then send again; nothing of this write was kept."


class Overtaken(DatabaseUnavailable):
    """Another transaction and this one waited for each other, and the other one went on."""

    advice = "Try again; nothing of this write was kept."


class ExtensionMissing(CatalogueError):
    """PostgreSQL cannot hold vectors, for `reason`."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"PostgreSQL's extension pgvector cannot be used: {reason}. Let an administrator "
            "install pgvector 0.8 or newer and run CREATE EXTENSION vector in this database, or "
            'set index.engine = "hnswlib" to keep the vectors in the data folder.'
        )


class SchemaMismatch(CatalogueError):
    """The database has schema `found`, this version of Similis knows up to `expected`."""

    def __init__(self, found: str, expected: str) -> None:
        self.found = found
        self.expected = expected
        super().__init__(
            f"The database has schema {found}, but this version of Similis knows only {expected}. "
            "Install the version that wrote it, or a newer one, or restore an older backup."
        )


class TargetNotEmpty(CatalogueError):
    """The database at `url` already has rows in `table`."""

    def __init__(self, url: str, table: str) -> None:
        self.url = url
        self.table = table
        super().__init__(
            f"The database {url} is not empty: its table {table} has rows. Give one that is new."
        )


class TransferDiffers(CatalogueError):
    """The `rows` of a `table` arrived as `arrived` rows, or not as they were."""

    def __init__(self, table: str, rows: int, arrived: int) -> None:
        self.table = table
        self.rows = rows
        self.arrived = arrived
        super().__init__(
            f"The table {table} did not arrive as it left ({rows} rows, {arrived} arrived): "
            "nothing was kept in the new database, the old one is as it was."
        )


class UnknownTransition(CatalogueError):
    """`event` has no meaning in `state`."""

    def __init__(self, state: str, event: str) -> None:
        self.state = state
        self.event = event
        super().__init__(f"Nothing in state {state} can answer the event {event}.")


class UnknownKey(CatalogueError):
    """No row of `table` has the key `key`."""

    def __init__(self, table: str, key: int) -> None:
        self.table = table
        self.key = key
        super().__init__(f"There is no {table} {key} in the catalogue (any more).")


class UnknownSpace(CatalogueError):
    """The text space `space_id` is not noted: it was dropped, or never adopted."""

    def __init__(self, space_id: str) -> None:
        self.space_id = space_id
        super().__init__(f"There is no text space {space_id} in the catalogue (any more).")


class StudyChanged(CatalogueError):
    """The study `study_id` changed while a report on it was written, which no longer holds."""

    def __init__(self, study_id: int) -> None:
        self.study_id = study_id
        super().__init__(f"The study {study_id} changed while its report was written: try again.")


class KeptElsewhere(CatalogueError):
    """A kept study has the instance `sop_instance_uid`, another one than it was sent in."""

    def __init__(self, sop_instance_uid: str) -> None:
        self.sop_instance_uid = sop_instance_uid
        super().__init__(f"The instance {sop_instance_uid} is kept as part of another study.")


class OtherGeneration(CatalogueError):
    """Vectors by `model_id`, while those by `answering` answer."""

    def __init__(self, model_id: str, answering: str) -> None:
        self.model_id = model_id
        self.answering = answering
        super().__init__(f"The model {model_id} made the vectors, but those of {answering} answer.")


class UnknownGeneration(CatalogueError):
    """No generation has the model `model_id`."""

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id
        super().__init__(f"No vectors by the model {model_id} are kept; run `similis reindex`.")


class BadVector(CatalogueError):
    """A vector that may not enter the catalogue or the index, for `reason`."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"Refused a vector: {reason}. Check the encoder that made it.")


class BadQuery(CatalogueError):
    """A search whose `field` cannot be honoured, for `reason`."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"Cannot search with this {field}: {reason}.")


class IndexNotSaved(CatalogueError):
    """The vector file at `path` could not be written, for `reason`."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(
            f"The vector index {path} was not saved: {reason}. Free space or check the folder; "
            "no vector is lost, the next start rebuilds the file from the catalogue."
        )
