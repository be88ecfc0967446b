"""The catalogue of models: reads `models.yaml` and prices what a model has used."""

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from contracts.item import Usage
from contracts.subjects import TOKEN
from shared.errors import Rejected
from shared.settings import SettingsError

BUILT_IN = Path(__file__).with_name("models.yaml")
MILLION = 1_000_000


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Price(_Entry):
    """US dollars per million tokens; `cached` is what prompt tokens cost that the endpoint had in its cache."""

    prompt: float = Field(default=0.0, ge=0)
    cached: float | None = Field(default=None, ge=0)
    completion: float = Field(default=0.0, ge=0)


class Timeout(_Entry):
    """Seconds. `read` is the longest silence between two pieces of an answer (of an engine in this process: between two
    of its steps, while anybody waits), `total` bounds a whole call."""

    connect: float = Field(default=4.0, gt=0)  # as the breaker's `slow_s`, which counts from when a request is sent
    read: float = Field(default=60.0, gt=0)
    total: float = Field(default=300.0, gt=0)


class Breaker(_Entry):
    """When a model is left alone, and for how long. Times in seconds."""

    failures: int = Field(default=3, ge=1)  # calls in a row that failed, or were slow
    slow_s: float = Field(default=4.0, gt=0)  # to the first token
    open_s: float = Field(default=2.0, gt=0)  # at first; doubles with every probe that fails …
    open_max_s: float = Field(default=60.0, gt=0)  # … up to this, or to what Retry-After says


class Patience(_Entry):
    """For how many seconds of its being away a model is waited for before the next rung answers, by lane.

    `margin` is what an item keeps of its time for the next rung: nearer to its deadline it does not wait.
    """

    interactive: float = Field(default=0.0, ge=0)
    batch: float = Field(default=3600.0, ge=0)
    margin: float = Field(default=60.0, ge=0)


class Model(_Entry):
    """One model of the catalogue; `models.yaml` explains the fields."""

    name: str
    engine: Literal["extractive", "openai", "vllm", "canned", "noop"]
    base_url: str = ""
    id: str = ""
    api_key_env: str = ""
    context: int = Field(default=8192, ge=256)
    price: Price = Price()
    timeout: Timeout = Timeout()
    tasks: tuple[str, ...] = ()
    structured: Literal["json_schema", "json_object", "none"] = "json_schema"
    max_tokens_as: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    default: bool = False
    adapter: str = ""
    settings: dict[str, str | int | float | bool] = {}
    cache_salt: bool = False
    text: str = ""
    tools: str = ""
    expert: str = ""
    fallback: tuple[str, ...] = ()
    breaker: Breaker = Breaker()
    patience: Patience = Patience()

    @property
    def logprobs(self) -> bool:
        """Whether it can say how likely its tokens were."""
        return self.engine in ("openai", "vllm")

    @property
    def degraded(self) -> bool:
        """Whether it writes nothing of its own: in another model's place, its answer is a degraded one."""
        return self.engine in ("extractive", "canned")

    @field_validator("name")
    @classmethod
    def _name_is_a_token(cls, name: str) -> str:
        if not TOKEN.match(name):
            raise ValueError("expected 1 to 64 letters, digits, - and _")
        return name

    @field_validator("base_url")
    @classmethod
    def _address_without_key(cls, url: str) -> str:
        if url and not re.match(r"https?://[^/@\s]+(/\S*)?$", url):
            raise ValueError("expected http:// or https:// and a host, without user or password")
        return url.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _variable_not_key(cls, variable: str) -> str:
        if variable and not re.match(r"[A-Za-z_][A-Za-z0-9_]*$", variable):
            raise ValueError("expected the name of an environment variable, not the key")
        return variable

    @model_validator(mode="after")
    def _endpoint_is_complete(self) -> Self:
        if self.engine == "vllm" and not self.id:
            raise ValueError("the engine vllm needs id: a folder with the model, or its name")
        if self.tools and self.engine not in ("vllm", "openai"):
            raise ValueError(f"tools: the engine {self.engine} calls none")
        if self.engine == "openai" and self.tools not in ("", "native"):
            raise ValueError(f"tools: expected native for the engine openai, got {self.tools!r}")
        if self.adapter and self.engine != "vllm":
            raise ValueError("adapter: only the engine vllm loads adapters")
        if self.engine == "openai" and not (self.base_url and self.id):
            raise ValueError("the engine openai needs base_url and id")
        if (self.engine == "canned") != bool(self.text.strip()):
            raise ValueError("text: the engine canned needs what it answers with, and no other engine takes one")
        return self

    def cost(self, usage: Usage) -> float:
        """US dollars for this many tokens. Cached tokens are part of the prompt tokens."""
        cached = self.price.prompt if self.price.cached is None else self.price.cached
        fresh = max(usage.prompt_tokens - usage.cached_tokens, 0)
        total = (
            fresh * self.price.prompt + usage.cached_tokens * cached + usage.completion_tokens * self.price.completion
        )
        return total / MILLION


class Catalogue(_Entry):
    """All models. Names are unique, and exactly one model is the default."""

    models: tuple[Model, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        names = [model.name for model in self.models]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"model {twice[0]!r} stands twice")
        defaults = [model.name for model in self.models if model.default]
        if len(defaults) != 1:
            raise ValueError(f"expected one model with `default: true`, got {', '.join(defaults) or 'none'}")
        for model in self.models:
            self._check_fallback(model)
        return self

    def _check_fallback(self, model: Model) -> None:
        known = {other.name: other for other in self.models}
        below = [model.name]
        where = f"model {model.name!r}: fallback:"
        for name in model.fallback:
            if name not in known:
                raise ValueError(f"{where} no such model {name!r}; known are {', '.join(known)}")
            if name in below:
                raise ValueError(f"{where} {name!r} stands twice on its ladder")
            if "noop" in (model.engine, known[name].engine):
                raise ValueError(f"{where} a model of the engine noop stands on no ladder")
            if len(below) > 1 and known[below[-1]].degraded and not known[name].degraded:
                raise ValueError(f"{where} {name!r} writes, so it belongs before {below[-1]!r}")
            below.append(name)

    @cached_property
    def default(self) -> Model:
        """The model for jobs that name none."""
        return next(model for model in self.models if model.default)

    def get(self, name: str) -> Model:
        """The model of this name, the default for an empty one; raises Rejected that lists the known names."""
        if not name:
            return self.default
        for model in self.models:
            if model.name == name:
                return model
        raise Rejected(f"no such model {name!r}; known are {', '.join(model.name for model in self.models)}")

    def ladder(self, name: str) -> tuple[Model, ...]:
        """A model and those behind it, in their order; what stands behind these is not asked. Raises Rejected."""
        first = self.get(name)
        return (first, *(self.get(other) for other in first.fallback))


def load_catalogue(path: Path | None = None) -> Catalogue:
    """Read a models.yaml, the built-in one by default; raises SettingsError that names file, model and field."""
    file = path or BUILT_IN
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
    try:
        return Catalogue.model_validate(content)
    except ValidationError as error:
        raise SettingsError(_explain(file, content, error)) from None


def _explain(file: Path, content: Any, error: ValidationError) -> str:
    first = error.errors()[0]
    where, field = _place(content, first["loc"])
    text = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        owners: dict[str, type[_Entry]] = {
            "price": Price, "timeout": Timeout, "breaker": Breaker, "patience": Patience,
        }  # fmt: skip
        owner = owners.get(field.split(".")[0], Model if where else Catalogue)
        text = f"no such field; known are {', '.join(owner.model_fields)}"
    return ": ".join(part for part in (str(file), where, field, text) if part)


def _place(content: Any, location: Sequence[str | int]) -> tuple[str, str]:
    """Which model, by its name where it has one, and which of its fields."""
    if len(location) < 2 or location[0] != "models" or not isinstance(location[1], int):
        return "", ".".join(str(part) for part in location)
    entry = content["models"][location[1]]
    name = entry.get("name") if isinstance(entry, dict) else None
    where = f"model {name!r}" if name else f"model {location[1] + 1}"
    return where, ".".join(str(part) for part in location[2:])
