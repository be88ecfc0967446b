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
    """Seconds. `read` is the longest silence between two pieces of an answer, `total` bounds a whole call."""

    connect: float = Field(default=5.0, gt=0)
    read: float = Field(default=60.0, gt=0)
    total: float = Field(default=300.0, gt=0)


class Model(_Entry):
    """One model of the catalogue; `models.yaml` explains the fields."""

    name: str
    engine: Literal["extractive", "openai", "vllm", "noop"]
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
        if self.adapter and self.engine != "vllm":
            raise ValueError("adapter: only the engine vllm loads adapters")
        if self.engine == "openai" and not (self.base_url and self.id):
            raise ValueError("the engine openai needs base_url and id")
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
        return self

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
        owners: dict[str, type[_Entry]] = {"price": Price, "timeout": Timeout}
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
