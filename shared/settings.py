"""Settings come from the environment: `PENSTOCK_<NAME>` for all, `PENSTOCK_<SERVICE>_<NAME>` for one service."""

import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import PenstockError
from shared.tls import Tls

SERVICES = ("ingest", "retrieve", "rerank", "route", "generate", "judge", "memory")


T = TypeVar("T", bound=BaseSettings)


class SettingsError(PenstockError):
    """A setting is unknown, missing or of the wrong form; the text names its variable."""


_Kept = Annotated[float | None, Field(ge=0.01, le=1e6)]


class StreamSizes(BaseSettings):
    """How much NATS keeps (GB of 2³⁰ bytes) and how long. What is not set stays as a stream has it, so that a command
    without these variables changes nothing; a new stream is as contracts/subjects.py says."""

    model_config = SettingsConfigDict(env_prefix="PENSTOCK_", extra="ignore", frozen=True, env_ignore_empty=True)

    results_days: _Kept = None  # results, and the large payloads among them
    results_gb: _Kept = None  # full: nothing is accepted until something is old enough
    events_days: _Kept = None  # the audit log
    events_gb: _Kept = None  # full: the oldest records go
    jobs_gb: _Kept = None  # submissions that wait, of each tenant. Full: nothing is accepted
    work_gb: _Kept = None  # tasks that wait for services. Full: batches wait in JOBS
    groups_gb: _Kept = None  # results inside jobs, for a day. Full: the oldest go
    documents_gb: _Kept = None  # the log of documents. Full: nothing new is ingested
    tenant_gb: _Kept = None  # of each tenant's account: copies of its results and records, and its uploads

    @classmethod
    def from_environment(cls, file: str | None = None) -> Self:
        """Read the environment, and a file of variables where it says nothing, these only; raises SettingsError for
        wrong ones."""
        return _read(cls, ignore=("PENSTOCK_",), file=file)


class StackSettings(StreamSizes):
    """What every process needs to know about the stack it belongs to."""

    model_config = SettingsConfigDict(env_prefix="PENSTOCK_", extra="forbid", frozen=True)

    nats_url: str = "nats://127.0.0.1:4222"
    redis_url: str = "redis://127.0.0.1:6379/0"
    nats_url_file: Path | None = None  # a file that holds the address, so that its password stands in no environment
    redis_url_file: Path | None = None
    stream_replicas: int = Field(default=1, ge=1, le=5)  # of a cluster of NATS servers, how many hold each stream
    ca_file: Path | None = None  # authorities that sign the servers' certificates (tls://, rediss://, https://)
    cert_file: Path | None = None  # our certificate and its key, where servers ask for one
    key_file: Path | None = None
    accounts: bool = False  # the NATS server has accounts, as `penstock up` and compose.yaml write them
    data: Path = Path(".penstock")
    models: Path | None = None  # a models.yaml in place of the built-in one
    limits: Path | None = None  # a limits.yaml; without one nothing is limited
    ready_file: Path | None = None  # written anew every few seconds while the service is ready: for health checks
    otlp: str = ""  # OTLP over HTTP, for example http://127.0.0.1:4318; empty: nothing is exported
    trace_shards: int = Field(default=10, ge=0)  # of a job, how many shards have spans; the audit log has all of them
    metrics_port: int = Field(default=0, ge=0, le=65535)  # where Prometheus finds /metrics; 0: nowhere
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"
    sample_tenants: str = ""  # names with commas between them: their questions and answers are logged, redacted
    sample_share: float = Field(default=1.0, ge=0, le=1)  # of them

    @property
    def tls(self) -> Tls:
        return Tls(self.ca_file, self.cert_file, self.key_file)

    @property
    def sampled(self) -> frozenset[str]:
        """The tenants of `sample_tenants`."""
        return frozenset(name.strip() for name in self.sample_tenants.split(",") if name.strip())

    @classmethod
    def load(cls) -> Self:
        """Read the environment; raises SettingsError for unknown and wrong variables."""
        found = _read(cls, ignore=tuple(f"PENSTOCK_{name.upper()}_" for name in SERVICES))
        urls = {name: _from_file(name) for name in ("nats_url", "redis_url") if getattr(found, f"{name}_file")}
        return found.model_copy(update=urls)


class ServiceSettings(BaseSettings):
    """Base of each service's settings: subclass it, name the service, add fields with defaults."""

    service: ClassVar[str]
    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    interactive_slots: int = 8  # tasks of the interactive lane that are worked on at the same time
    batch_slots: int = 4
    attempts: int = 5  # deliveries of a task before it goes to the dead letters
    ack_wait_s: float = Field(default=30.0, gt=0)

    @field_validator("interactive_slots", "batch_slots", "attempts")
    @classmethod
    def _at_least_one(cls, value: int) -> int:
        """Here and not in the fields, so that it holds for services that name other defaults."""
        if value < 1:
            raise PydanticCustomError("at_least_one", "Input should be greater than or equal to 1")
        return value

    @classmethod
    def load(cls) -> Self:
        """Read `PENSTOCK_<SERVICE>_…`; raises SettingsError for unknown and wrong variables."""
        return _read(cls)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: object) -> None:
        cls.model_config["env_prefix"] = f"PENSTOCK_{cls.service.upper()}_"


def _from_file(name: str) -> str:
    variable = f"PENSTOCK_{name.upper()}"
    if variable in os.environ:
        raise SettingsError(f"{variable}_FILE: expected either this or {variable}, got both")
    try:
        return Path(os.environ[f"{variable}_FILE"]).read_text().strip()
    except OSError as error:
        raise SettingsError(f"{variable}_FILE: {error.strerror}: {error.filename}") from None


def _read(cls: type[T], ignore: tuple[str, ...] = (), file: str | None = None) -> T:
    prefix = str(cls.model_config["env_prefix"])
    known = {f"{prefix}{name.upper()}" for name in cls.model_fields}
    for variable in os.environ:
        if variable.startswith(prefix) and not variable.startswith(ignore or ("\0",)) and variable not in known:
            raise SettingsError(f"{variable}: no such setting; known are {', '.join(sorted(known))}")
    try:
        return cls(_env_file=file)
    except ValidationError as error:
        first = error.errors()[0]
        name = f"{prefix}{str(first['loc'][0]).upper()}"
        raise SettingsError(f"{name}: {first['msg']}, got {first['input']!r}") from None
