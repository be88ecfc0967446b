"""What tenants, users and models may use: reads `limits.yaml`. Without the file there are no limits."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from shared.settings import SettingsError

OTHERS = "*"
"""Stands for every tenant, or every user of a tenant, whose name is not in the file; each of them has it alone."""

Kind = Literal["tenant", "user", "model"]
_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$|^\*$")]
_Count = Annotated[int, Field(ge=1)]
_Dollars = Annotated[float, Field(gt=0, le=1_000_000)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Allowance(_Entry):
    """Calls and tokens of models by minute and by day (UTC), and US dollars by day and by month (UTC). None: any."""

    rpm: _Count | None = None
    tpm: _Count | None = None
    rpd: _Count | None = None
    usd_day: _Dollars | None = None
    usd_month: _Dollars | None = None

    def over(self, other: "Allowance") -> "Allowance":
        """This one; what it does not mention is as in the other."""
        return Allowance.model_validate({**other.plain, **self.plain})

    @property
    def plain(self) -> dict[str, float | None]:
        """What is mentioned, without the users."""
        return self.model_dump(exclude_unset=True, include=set(Allowance.model_fields))

    @property
    def unlimited(self) -> bool:
        return all(value is None for value in (self.rpm, self.tpm, self.rpd, self.usd_day, self.usd_month))


class TenantAllowance(Allowance):
    """Of a tenant, and of each of its users. Jobs that name no user are those of one user without a name."""

    users: dict[_Name, Allowance] = {}


class ModelAllowance(_Entry):
    """Of a model, over all tenants: what its provider or its hardware bears."""

    rpm: _Count | None = None
    tpm: _Count | None = None
    rpd: _Count | None = None


class BatchRules(_Entry):
    """How batch work stands back behind people who wait."""

    share: float = Field(default=0.8, gt=0, le=1)  # of each rate; the rest is kept for people who wait
    wait_s: float | None = Field(
        default=None, gt=0
    )  # who would wait longer is refused at once; None: till its deadline


@dataclass(frozen=True)
class Scope:
    """Somebody's allowance: one set of counters."""

    kind: Kind
    name: str  # of the tenant, the model, or `<tenant>/<user>`
    allowance: Allowance

    def __str__(self) -> str:
        if self.kind != "user":
            return f"the {self.kind} {self.name!r}"
        tenant, _, user = self.name.partition("/")
        return f"the user {user!r} of {tenant!r}" if user else f"jobs of {tenant!r} that name no user"


class Limits(_Entry):
    """All of limits.yaml; docs/limits.md explains the fields."""

    tenants: dict[_Name, TenantAllowance] = {}
    models: dict[_Name, ModelAllowance] = {}
    batch: BatchRules = BatchRules()
    reserve_s: float = Field(default=900.0, ge=60)  # what a call that never reports back holds of a budget, for so long

    @property
    def none(self) -> bool:
        """Whether nothing is limited."""
        return not self.tenants and not self.models

    def scopes(self, tenant: str, user: str) -> list[Scope]:
        """Whose allowances every call counts against, whatever model it goes to; without those that limit nothing."""
        found = [*self.of_tenant(tenant), *self.of_user(tenant, user)]
        return [scope for scope in found if not scope.allowance.unlimited]

    def of_tenant(self, tenant: str) -> Iterator[Scope]:
        """The tenant's own scope, where the file has one for it."""
        allowance = self._tenant(tenant)
        if allowance is not None:
            yield Scope("tenant", tenant, allowance)

    def of_model(self, model: str) -> Iterator[Scope]:
        """The model's own scope, where the file limits it."""
        if model in self.models:
            scope = Scope("model", model, Allowance(**self.models[model].model_dump(exclude_unset=True)))
            if not scope.allowance.unlimited:
                yield scope

    def users_of(self, tenant: str) -> list[str]:
        """Users of a tenant that the file names."""
        allowance = self._tenant(tenant)
        return [name for name in (allowance.users if allowance else {}) if name != OTHERS]

    def names(self, tenant: str, user: str) -> bool:
        """Whether the file names this user."""
        return user in self.users_of(tenant)

    def of_user(self, tenant: str, user: str) -> Iterator[Scope]:
        """The scope of a user, where the tenant's users have any."""
        allowance = self._tenant(tenant)
        if allowance is not None and allowance.users:
            yield Scope("user", f"{tenant}/{user}", _named(allowance.users, user))

    def _tenant(self, tenant: str) -> TenantAllowance | None:
        others, own = self.tenants.get(OTHERS), self.tenants.get(tenant)
        if own is None or others is None:
            return own or others
        users = {name: entry.over(others.users.get(name, Allowance())) for name, entry in own.users.items()}
        return TenantAllowance.model_validate({**others.plain, **own.plain, "users": {**others.users, **users}})


def _named(users: Mapping[str, Allowance], user: str) -> Allowance:
    others = users.get(OTHERS, Allowance())
    return users[user].over(others) if user in users else others


def load_limits(path: Path | None, models: Sequence[str]) -> Limits:
    """Read a limits.yaml; no path: no limits. Raises SettingsError that names file and field."""
    if path is None:
        return Limits()
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    try:
        limits = Limits.model_validate(content if content is not None else {})
    except ValidationError as error:
        raise SettingsError(_explain(path, error)) from None
    for name in limits.models:
        if name not in models:
            raise SettingsError(f"{path}: models.{name}: no such model; known are {', '.join(models)}")
    return limits


def _explain(path: Path, error: ValidationError) -> str:
    first = error.errors()[0]
    location = [str(part) for part in first["loc"] if part != "[key]"]
    text = first["msg"].removeprefix("Value error, ")
    if not location:
        text = f"expected {', '.join(Limits.model_fields)}, each with its fields"
    if first["type"] == "extra_forbidden":
        text = f"no such field; known are {', '.join(_owner(location[:-1]).model_fields)}"
    elif first["type"] == "string_pattern_mismatch":
        text = "expected a name of letters, digits, - and _, or * for all others"
    return ": ".join(part for part in (str(path), ".".join(location), text) if part)


def _owner(location: Sequence[str]) -> type[_Entry]:
    """Which entry a place in the file belongs to."""
    match list(location):
        case ["tenants", _]:
            return TenantAllowance
        case ["tenants", _, "users", _]:
            return Allowance
        case ["models", _]:
            return ModelAllowance
        case ["batch"]:
            return BatchRules
        case _:
            return Limits
