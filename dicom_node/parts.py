"""The parts of a data folder, built once and handed down: what `serve` and every command need."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import structlog
from pydicom.uid import UID, generate_uid

from dicom_node import PRODUCT
from dicom_node.answer.issue import Issuer
from dicom_node.answer.report import Algorithm
from dicom_node.config import CATALOGUE_FILE, Config, Encoding, Engine
from dicom_node.data_folder import DataFolder
from dicom_node.errors import NotKnown
from dicom_node.listener import prepare_dicom
from dicom_node.receive.intake import Intake
from dicom_node.receive.spool import Spool
from dicom_node.receive.store import Store
from dicom_node.receive.worker import Model, Worker
from index.catalogue import Catalogue
from index.config import IndexConfig
from index.db import connect, is_postgresql, migrate
from index.hnsw import HnswIndex
from index.jobs import Jobs
from index.pgvector import PgVectorIndex
from index.vectors import VectorIndex

log = structlog.get_logger()


def utc_now() -> datetime:
    """Return the current time; the one clock of the product, handed down from here."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Parts:
    """What lies in a data folder, opened: files, catalogue and queue."""

    config: Config
    folder: DataFolder
    store: Store
    catalogue: Catalogue
    jobs: Jobs
    intake: Intake

    @property
    def name(self) -> str:
        """What this installation signs its claims on jobs with."""
        return self.folder.installation().device_uid

    def close(self) -> None:
        """Let go of the database."""
        self.catalogue.engine.dispose()


def open_parts(config: Config, *, clock: Callable[[], datetime] = utc_now) -> Parts:
    """Open the data folder, creating and migrating what is needed.

    Raises `ConfigError` and `index.errors.CatalogueError`.
    """
    prepare_dicom()
    folder = DataFolder(config.data, config.kept)
    # A connection for every association that may write, and some for the threads of the node.
    engine = connect(config.database_url, connections=2 * config.dicom.maximum_associations + 10)
    migrate(engine)
    catalogue = Catalogue(engine, clock)
    store = Store(folder.store, minimum_free_bytes=config.storage.minimum_free_mb << 20)
    return Parts(
        config=config,
        folder=folder,
        store=store,
        catalogue=catalogue,
        jobs=Jobs(engine, clock),
        intake=Intake(
            store,
            catalogue,
            config.lifecycle,
            rejection_notes=config.storage.rejection_notes,
            # SQLite is never away: where it refuses, the disk does, and a note would not help.
            spool=Spool(folder.spool) if is_postgresql(engine.url) else None,
        ),
    )


def existing_parts(config: Config) -> Parts:
    """Open a data folder that must be there; raises `NotKnown`, else as `open_parts`.

    For commands that look: a mistyped --data must not become a new, empty node.
    """
    if not config.storage.database_url and not (config.data / CATALOGUE_FILE).exists():
        raise NotKnown(
            "data folder", str(config.data), "check --data, or start with `similis serve`"
        )
    return open_parts(config)


class Maker(Protocol):
    """Who makes vectors of one kind: a model, or a text space."""

    @property
    def model_id(self) -> str:
        """Return what its vectors lie under."""

    @property
    def dim(self) -> int:
        """Return the length of a vector."""


def open_index(
    parts: Parts, maker: Maker, *, read_only: bool = False, background: bool = False
) -> VectorIndex:
    """Open the vectors by one maker, caught up with the catalogue.

    With `background` a graph that must be built is built beside the queries.
    """
    return _ENGINES[parts.config.engine](
        parts,
        model_id=maker.model_id,
        dim=maker.dim,
        config=IndexConfig(),
        read_only=read_only,
        background=background,
    )


def _open_hnswlib(parts: Parts, **options: Any) -> VectorIndex:
    index = HnswIndex.open(parts.folder.vectors, parts.catalogue, **options)
    if index.opened.rebuilt_because:
        log.info("vectors_rebuilt", reason=index.opened.rebuilt_because)
    return index


def _open_pgvector(parts: Parts, **options: Any) -> VectorIndex:
    return PgVectorIndex.open(parts.catalogue, **options)


_ENGINES: dict[Engine, Callable[..., VectorIndex]] = {
    Engine.HNSWLIB: _open_hnswlib,
    Engine.PGVECTOR: _open_pgvector,
}


def algorithm(model: Model) -> Algorithm:
    """Return what a report says about who ranked the cases."""
    return Algorithm(
        name=PRODUCT,
        version=model.version,
        manufacturer=PRODUCT,
        parameters=("metric=cosine", f"encoder={model.name}"),
        trained=model.trained,
    )


def open_issuer(parts: Parts, worker: Worker, *, clock: Callable[[], datetime] = utc_now) -> Issuer:
    """Return what builds and keeps the reports of this installation; `worker` decodes for it."""
    return Issuer(
        catalogue=parts.catalogue,
        store=parts.store,
        reports=parts.folder.reports,
        installation=parts.folder.installation(),
        destinations=parts.config.destinations,
        thumbnailer=worker,
        ae_title=parts.config.dicom.ae_title,
        clock=clock,
        new_uid=lambda: UID(generate_uid(prefix=None)),
    )


def configured_encoder(encoding: Encoding) -> Model:
    """Return what the configured encoder says of itself, without starting a worker."""
    from encoder import checkpoint  # here, so that the node's own process stays free of torch

    loaded = checkpoint.load(Path(encoding.checkpoint) if encoding.checkpoint else None)
    description = loaded.description
    return Model(
        model_id=checkpoint.model_id(loaded),
        name=description.name,
        version=checkpoint.version(loaded),
        trained=description.trained,
        dim=loaded.dim,
        device="",
        reason="",
    )
