"""The configuration: every key with its type, its default and what it means; unknown ones refused.

Does not know where values come from: see `settings`.
"""

import ipaddress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

CATALOGUE_FILE = "catalogue.sqlite"
MINIMUM_TOKEN_LENGTH = 16

# PS3.5 Table 6.2-1: AE is at most 16 characters of the default repertoire, no backslash.
# Spaces around it say nothing (PS3.5 6.2).
AeTitle = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$"),
]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(ge=0)]


def _split(value: object) -> object:
    """Let an environment variable hold a list: `A, B`."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _upper_keys(value: object) -> object:
    """Let an environment variable, whose name is folded to lower case, name a modality."""
    return {str(k).upper(): v for k, v in value.items()} if isinstance(value, dict) else value


class Section(BaseModel):
    """A table of the configuration file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Dicom(Section):
    """The two DICOM listeners."""

    host: str = Field("127.0.0.1", description="address both listeners bind to")
    port: Port = Field(11112, description="C-STORE and C-ECHO; 0 takes a free port")
    query_port: Port = Field(
        11113, description="C-FIND, C-MOVE, C-GET, and C-STORE as a query; 0 takes a free port"
    )
    ae_title: AeTitle = Field("SIMILIS", description="called AE title of the storage listener")
    find_ae_title: AeTitle = Field("SIMILIS_FIND", description="called AE title of similarity")
    text_ae_title: AeTitle = Field(
        "SIMILIS_TEXT", description="called AE title of similarity by words, on the query port"
    )
    qr_ae_title: AeTitle = Field(
        "SIMILIS_QR",
        validate_default=True,  # the others may be set to it
        description="called AE title of ordinary query/retrieve, on the query port",
    )
    calling_ae_titles: Annotated[tuple[AeTitle, ...], BeforeValidator(_split)] = Field(
        (), description="who may connect; empty: anyone who reaches the port"
    )
    maximum_pdu_bytes: int = Field(131072, ge=4096, description="PDU size offered to peers")
    maximum_associations: int = Field(50, ge=1, description="at once, per listener")
    network_timeout_s: Seconds = Field(60.0, description="silence after which a peer is dropped")

    @field_validator("qr_ae_title")
    @classmethod
    def _told_apart(cls, title: str, info: ValidationInfo) -> str:
        others = [info.data.get(name) for name in ("find_ae_title", "text_ae_title")]
        if len({title, *others}) < 1 + len(others):
            names = "find_ae_title, text_ae_title and qr_ae_title"
            raise ValueError(f"{names} share a port and must differ")
        return title


class Http(Section):
    """The HTTP listener: DICOMweb, and similar cases as JSON."""

    enabled: bool = Field(True, description="whether the node answers over HTTP")
    host: str = Field("127.0.0.1", description="address it binds to")
    port: Port = Field(8080, description="0 takes a free port")
    token: SecretStr = Field(
        SecretStr(""), description="bearer token that every request must carry; empty: none"
    )
    token_file: str = Field("", description="file that holds the token instead")
    certificate: str = Field("", description="TLS certificate chain, PEM; empty: no TLS")
    private_key: str = Field("", description="its key, PEM; empty: in the same file")
    client_ca: str = Field("", description="CA, PEM, that must have signed a client's certificate")
    maximum_requests: int = Field(32, ge=1, description="answered at once; more are put off")
    maximum_upload_mb: int = Field(4096, ge=1, description="largest body of a request")
    timeout_s: float = Field(60.0, gt=0, description="silence after which a sender is given up")

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.client_ca and not self.certificate:
            raise ValueError("client_ca needs TLS: give a certificate")
        if 0 < len(self.token) < MINIMUM_TOKEN_LENGTH:
            raise ValueError(f"the token has fewer than {MINIMUM_TOKEN_LENGTH} characters")
        guarded = self.token or self.token_file or self.client_ca
        if self.enabled and not self.is_loopback and not guarded:
            raise ValueError(
                f"{self.host} is reached from other machines: give a token_file or a client_ca, "
                "or listen on 127.0.0.1"
            )
        return self


class Storage(Section):
    """What is kept, and where."""

    maximum_object_mb: int = Field(
        2048, ge=1, description="an instance larger than this is cut off; it is held in memory"
    )
    minimum_free_mb: int = Field(
        256, ge=0, description="below this much free disk a C-STORE is answered A700, an upload 507"
    )
    rejection_notes: bool = Field(
        True, description="whether a rejection note takes out what it names"
    )
    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite in the data folder")
    folder: str = Field(
        "", description="of objects and reports, if nodes share them; empty: the data folder"
    )


class Engine(StrEnum):
    """What finds near vectors."""

    AUTO = "auto"
    HNSWLIB = "hnswlib"
    PGVECTOR = "pgvector"


class Index(Section):
    """How near vectors are found."""

    engine: Engine = Field(
        Engine.AUTO,
        description="auto: pgvector where the catalogue is in PostgreSQL, else hnswlib",
    )


class Lifecycle(Section):
    """When a series and a study count as complete (quiet timers)."""

    series_quiet_s: Seconds = Field(30.0, description="silence that closes a series")
    study_quiet_s: Seconds = Field(120.0, description="silence that closes a study")
    cap_s: Seconds = Field(1800.0, description="a trickle of instances cannot delay longer")
    quiet_s_by_modality: Annotated[dict[str, Seconds], BeforeValidator(_upper_keys)] = Field(
        {"US": 300.0, "XA": 300.0, "ES": 300.0, "MG": 600.0},
        description="series silence where it differs; entries are added to these",
    )


class Encoding(Section):
    """The encoder and the processes that run it."""

    checkpoint: str = Field(
        "",
        description="checkpoint folder; empty: the shipped encoder; where another one's vectors "
        "answer, `similis reindex` changes over to it",
    )
    device: str = Field("auto", description="auto, cpu or cuda")
    workers: int = Field(1, ge=1, description="embedding processes")
    threads: int = Field(0, ge=0, description="threads per worker; 0: all cores shared out")
    timeout_s: float = Field(600.0, gt=0, description="time limit for one series")
    memory_mb: int = Field(
        8192, ge=0, description="memory limit of each process that embeds or reads words; 0: none"
    )


class Text(Section):
    """Words as queries: the text space and how it is asked."""

    enabled: bool = Field(True, description="whether cases are searched by words")
    folder: str = Field(
        "", description="folder of a text space of the encoder; empty: the shipped one, if any"
    )
    weight: float = Field(
        0.5, ge=0, le=1, description="share of the words where there is an example too"
    )


class Scope(StrEnum):
    """Which cases may be answered; the patient's own are only under ALL."""

    ALL = "ALL"
    OTHER_PATIENTS = "OTHER_PATIENTS"
    SAME_MODALITY = "SAME_MODALITY"
    SAME_BODY_PART = "SAME_BODYPART"


class Answer(Section):
    """How similar cases are searched and reported."""

    k: int = Field(10, ge=1, le=200, description="cases per answer unless asked otherwise")
    maximum_k: int = Field(200, ge=1, le=1000, description="cases per answer at most")
    minimum_score: float = Field(-1.0, ge=-1, le=1, description="cosine below which none is named")
    part_weight: float = Field(
        0.0, ge=0, le=1, description="share of slices, frames and regions in a score"
    )
    scope: Scope = Field(
        Scope.OTHER_PATIENTS,
        description="cases a report may name: ALL, OTHER_PATIENTS, SAME_MODALITY or SAME_BODYPART",
    )
    near_duplicate: float = Field(
        0.98, ge=0, le=2, description="cosine from which studies are one case; above 1: never"
    )
    retrieve_ae_title: Annotated[str, StringConstraints(strip_whitespace=True)] = Field(
        "", description="AE title to retrieve matches from; empty: this node's own"
    )
    wait_s: Seconds = Field(
        3.0, description="how long a C-FIND waits for a study that is being indexed"
    )
    decorate: bool = Field(
        False, description="put rank and score before StudyDescription in similarity answers"
    )
    attempts: int = Field(10, ge=1, description="times a report is offered before it is FAILED")
    first_retry_s: Seconds = Field(5.0, description="first pause; doubled each time")
    longest_retry_s: Seconds = Field(900.0, description="longest pause between two attempts")
    timeout_s: float = Field(30.0, gt=0, description="silence after which a peer is given up")
    commitment_wait_s: Seconds = Field(
        60.0, description="after which commitment is asked for again; doubled each time"
    )
    guest_minutes: float = Field(
        60.0, ge=0, description="how long a study sent as a query stays after it was answered"
    )


class Neighbours(StrEnum):
    """How a report names the similar cases: by pseudonyms, or by their real UIDs."""

    OPAQUE = "opaque"
    LINKED = "linked"


class Title(StrEnum):
    """The title of a report: known to every viewer, or one that OHIF prints as text."""

    IMAGING_MEASUREMENT_REPORT = "126000"
    SIMILAR_CASES_REPORT = "SIM000"


class Destination(Section):
    """A peer that objects are sent to."""

    ae_title: AeTitle
    host: str
    port: int = Field(ge=1, le=65535)
    commitment: bool = Field(True, description="ask it to commit to keeping every report")
    contact_sheet: bool = Field(True, description="query and cases side by side, as pictures")
    pdf: bool = Field(False, description="the same pictures as an encapsulated PDF")
    neighbours: Neighbours = Field(
        Neighbours.OPAQUE, description="linked: real UIDs of other patients' studies"
    )
    title: Title = Field(
        Title.IMAGING_MEASUREMENT_REPORT, description="SIM000: a private code, for OHIF"
    )
    scope: Scope | None = Field(None, description="in its reports; else as in answer")
    minimum_score: float | None = Field(
        None, ge=-1, le=1, description="in its reports; else as in answer"
    )


class Config(Section):
    """The whole configuration; `data` is the one folder everything lives in."""

    data: Path = Field(Path("similis-data"), description="data folder")
    dicom: Dicom = Dicom()
    http: Http = Http()
    storage: Storage = Storage()
    index: Index = Index()
    lifecycle: Lifecycle = Lifecycle()
    encoder: Encoding = Encoding()
    text: Text = Text()
    answer: Answer = Answer()
    destinations: dict[str, Destination] = Field({}, description="who gets reports, by name")
    peers: dict[str, Destination] = Field(
        {}, description="whom a C-MOVE may send to besides the destinations, by name"
    )

    @field_validator("destinations", "peers")
    @classmethod
    def _one_of_each_title(
        cls, named: dict[str, Destination], info: ValidationInfo
    ) -> dict[str, Destination]:
        """Refuse an AE title that means two: one could get what is for the other."""
        others = info.data.get("destinations", {}) if info.field_name == "peers" else {}
        names = {each.ae_title: f"destinations.{name}" for name, each in others.items()}
        for name, each in named.items():
            here = f"{info.field_name}.{name}"
            if (there := names.setdefault(each.ae_title, here)) != here:
                raise ValueError(f"{there} and {here} have the same ae_title, {each.ae_title}")
        return named

    @property
    def database_url(self) -> str:
        """The catalogue's URL, SQLite in the data folder unless configured."""
        return self.storage.database_url or f"sqlite:///{self.data / CATALOGUE_FILE}"

    @property
    def kept(self) -> Path:
        """The folder of objects and reports, the data folder unless configured."""
        return Path(self.storage.folder) if self.storage.folder else self.data

    @property
    def engine(self) -> Engine:
        """What finds near vectors, decided."""
        if self.index.engine is not Engine.AUTO:
            return self.index.engine
        is_server = self.database_url.startswith("postgres")
        return Engine.PGVECTOR if is_server else Engine.HNSWLIB

    @model_validator(mode="after")
    def _has_what_its_engine_needs(self) -> Self:
        if self.engine is Engine.PGVECTOR and not self.database_url.startswith("postgres"):
            raise ValueError("index.engine pgvector needs a storage.database_url of PostgreSQL")
        return self
