"""Two shards for a catalogue's vectors: databases of the same server, made by deploy/ha/*.sql."""

import subprocess
from pathlib import Path

from cluster import programs
from sqlalchemy import URL, Engine, text

_SCRIPTS = Path(__file__).parents[1] / "deploy/ha"
_SHARDS = 2


def shard(engine: Engine, model_id: str, dim: int) -> None:
    """Put the vectors of a model on shards, unless they are."""
    _run("CREATE EXTENSION IF NOT EXISTS postgres_fdw", engine)
    for number in range(_SHARDS):
        url = engine.url.set(database=f"{engine.url.database}_shard_{number}")
        _connect(engine, number, url)
        _script("shard.sql", url, model=model_id, dim=dim)
    _script("coordinator.sql", engine.url, model=model_id, dim=dim, shards=_SHARDS)
    engine.dispose()  # what is set for a database holds for new connections


def _connect(engine: Engine, number: int, url: URL) -> None:
    with engine.connect() as connection:
        known = text("SELECT 1 FROM pg_foreign_server WHERE srvname = :name")
        if connection.execute(known, {"name": f"shard_{number}"}).first() is not None:
            return
    _run(f"CREATE DATABASE {url.database} TEMPLATE template0 STRATEGY FILE_COPY", engine)
    _run(
        f"CREATE SERVER shard_{number} FOREIGN DATA WRAPPER postgres_fdw"
        f" OPTIONS (host '{url.host}', port '{url.port}', dbname '{url.database}',"
        " extensions 'vector', batch_size '1000')",
        engine,
    )
    _run(f"CREATE USER MAPPING FOR PUBLIC SERVER shard_{number} OPTIONS (user 'postgres')", engine)


def _run(statement: str, engine: Engine) -> None:
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(statement))


def _script(name: str, url: URL, **values: object) -> None:
    given = [f"--set={key}={value}" for key, value in values.items()]
    address = url.set(drivername="postgresql").render_as_string()
    command = [
        programs() / "psql",
        "--quiet",
        "--no-psqlrc",
        *given,
        "-f",
        _SCRIPTS / name,
        address,
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
