"""Where the values of the configuration come from: read once, every value knows its source.

Order of precedence, lowest first: defaults, `similis.toml`, environment (`SIMILIS_DICOM__PORT`),
command-line flags. `similis config` prints the result with the sources.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dicom_node.config import Config, Lifecycle
from dicom_node.errors import ConfigError

# What pydantic says in the words of a programmer.
_REASONS = {"extra_forbidden": "unknown key", "missing": "is missing"}
ENVIRONMENT_PREFIX = "SIMILIS_"


@dataclass(frozen=True, slots=True)
class Setting:
    """One value and where it came from: `default`, the file's path, `environment` or `flag`."""

    key: str
    value: object
    source: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration with the source of every value."""

    config: Config
    sources: Mapping[str, str]

    def settings(self) -> Iterator[Setting]:
        """Yield every leaf value in the order of the classes of `config`."""
        for key, value in _leaves(self.config.model_dump(mode="json")):
            # The environment names a modality in lower case.
            source = self.sources.get(key) or self.sources.get(key.lower(), "default")
            yield Setting(key, value, source)


def load(
    path: Path | None,
    *,
    flags: Mapping[str, object] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Loaded:
    """Read the configuration; raise `ConfigError` naming the key and the source at fault.

    `path` None means `similis.toml` in the working folder if there is one. `flags` are dotted
    keys (`dicom.port`); those that are None are ignored.
    """
    layers: list[tuple[str, dict[str, Any]]] = []
    file = path or Path("similis.toml")
    if path or file.exists():
        layers.append((str(file), _read_toml(file)))
    layers.append(("environment", _nest(_environment_keys(environment))))
    layers.append(
        ("flag", _nest({key: value for key, value in (flags or {}).items() if value is not None}))
    )
    # A table with entries of its own: those that are given come beside the others.
    merged: dict[str, Any] = {"lifecycle": Lifecycle().model_dump(include={"quiet_s_by_modality"})}
    sources: dict[str, str] = {}
    for source, layer in layers:
        _merge(merged, layer)
        sources.update({key: source for key, _ in _leaves(layer)})
    try:
        return Loaded(Config.model_validate(merged), sources)
    except ValidationError as error:
        first, *others = (_fault(each, sources) for each in error.errors())
        raise ConfigError(*first, others=[ConfigError(*other) for other in others]) from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError("--config", str(path), error.strerror or "cannot be read") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("--config", str(path), f"is not TOML: {error}") from error


def _environment_keys(environment: Mapping[str, str]) -> dict[str, object]:
    return {
        name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", "."): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }


def _nest(dotted: Mapping[str, object]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in dotted.items():
        *parents, leaf = key.split(".")
        table = nested
        for parent in parents:
            below = table.setdefault(parent, {})
            table = below if isinstance(below, dict) else {}
        table[leaf] = value
    return nested


def _merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping):
            below = into.setdefault(key, {})
            if isinstance(below, dict):
                _merge(below, value)
                continue
        into[key] = value


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _fault(error: ErrorDetails, sources: Mapping[str, str]) -> tuple[str, str, str]:
    """Return the key at fault, where it came from, and what is wrong with it."""
    parts = [str(part) for part in error["loc"]]
    is_missing = error["type"] == "missing"
    source = _source_of(".".join(parts[:-1] if is_missing else parts), sources)
    return ".".join(parts), source, _REASONS.get(error["type"], error["msg"])


def _source_of(key: str, sources: Mapping[str, str]) -> str:
    near = [
        source for name, source in sources.items() if name.startswith(key) or key.startswith(name)
    ]
    return near[0] if near else "default"
