"""Prompts are files: `prompts/<name>/<version>/` with system.md, user.md, perhaps material.md, schema.json, meta.yaml.

All are read, compiled and checked at the start, so that a broken prompt stops the service and not a job.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import yaml
from jinja2 import StrictUndefined, Template, TemplateSyntaxError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.subjects import TOKEN
from shared.errors import PenstockError, Rejected
from shared.schema_check import Uncheckable, validator_of

FOLDER = Path(__file__).parent.parent / "prompts"

GIVEN = frozenset(
    ["question", "query", "context", "document", "passages", "parts", "part", "draft", "findings", "schema", "history"]
)  # what `render.given` gives to every template; all other variables come from the item


MOVING = GIVEN - {"schema"}
"""What a system prompt may not speak of: it comes first, and should be the same for as many questions as can be."""

TURNING = MOVING - {"context", "document"}
"""What material may not speak of: it comes before a session's turns, and should be the same for all its questions."""


class PromptError(PenstockError):
    """A prompt's files are incomplete or wrong; the text names the file."""


class About(BaseModel):
    """meta.yaml: what people need to know, and what rendering needs to know."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = ""
    variables: dict[str, str] = {}  # name → what it is; an item gives them in `variables`
    keep_draft: bool = False  # the answer so far becomes the draft that this prompt is about
    remarks: str = ""


@dataclass(frozen=True)
class Prompt:
    """One version of a prompt."""

    name: str
    version: int
    system: Template
    user: Template
    about: About
    material: Template | None = None
    schema: dict[str, object] | None = None
    digest: str = ""  # of name, version and templates: another text is another policy version

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Prompts:
    """All prompts, by name and version."""

    by_name: Mapping[str, Mapping[int, Prompt]]

    def get(self, ref: str) -> Prompt:
        """`name` (its highest version) or `name@version`; raises Rejected that lists what there is."""
        name, _, version = ref.partition("@")
        versions = self.by_name.get(name)
        if versions is None:
            raise Rejected(f"no such prompt {name!r}; known are {', '.join(self.by_name)}")
        if not version:
            return versions[max(versions)]
        if not version.isdecimal() or int(version) not in versions:
            raise Rejected(f"no version {version!r} of the prompt {name!r}; known are {', '.join(map(str, versions))}")
        return versions[int(version)]

    def before(self, ref: str) -> Prompt | None:
        """What a name meant before its newest version came; None for the first one, and where a version is named."""
        versions = self.by_name.get(ref, {})
        older = sorted(versions)[:-1]
        return versions[older[-1]] if older else None


def load_prompts(folder: Path = FOLDER) -> Prompts:
    """Read and check every prompt; raises PromptError that names the file."""
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False
    )
    environment.filters["data"] = as_data
    found: dict[str, dict[int, Prompt]] = {}
    for place in sorted(path for path in folder.glob("*/*") if path.is_dir()):
        prompt = _load(place, environment)
        found.setdefault(prompt.name, {})[prompt.version] = prompt
    return Prompts({name: dict(sorted(versions.items())) for name, versions in found.items()})


def as_data(text: str) -> str:
    """Text of others inside our tags: it cannot close them."""
    return text.replace("</", "< /")


def _load(place: Path, environment: ImmutableSandboxedEnvironment) -> Prompt:
    name, version = place.parent.name, place.name
    if not TOKEN.match(name) or not version.isdecimal():
        raise PromptError(f"{place}: expected prompts/<name>/<version number>/")
    about = _about(place / "meta.yaml")
    return Prompt(
        name=name,
        version=int(version),
        digest=_digest(place),
        system=_template(place / "system.md", environment, about, MOVING),
        user=_template(place / "user.md", environment, about),
        about=about,
        material=_template(place / "material.md", environment, about, TURNING) if _has_material(place) else None,
        schema=_schema(place / "schema.json"),
    )


def _has_material(place: Path) -> bool:
    return (place / "material.md").exists()


def _digest(place: Path) -> str:
    digest = blake2b(f"{place.parent.name}@{place.name}".encode(), digest_size=8)
    for file in sorted(place.iterdir()):
        digest.update(b"\0" + file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _template(
    file: Path, environment: ImmutableSandboxedEnvironment, about: About, barred: frozenset[str] = frozenset()
) -> Template:
    try:
        source = file.read_text(encoding="utf-8")
        used = meta.find_undeclared_variables(environment.parse(source))
        if moving := used & barred:
            reason = "differs from question to question, which would hide the prefix from the engine's cache"
            raise PromptError(f"{file}: {sorted(moving)[0]!r} {reason}; use it in user.md")
        unknown = used - GIVEN - about.variables.keys()
        if unknown:
            raise PromptError(f"{file}: meta.yaml does not explain the variable {sorted(unknown)[0]!r}")
        return environment.from_string(source)
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{file}: cannot be read: {error}") from None
    except TemplateSyntaxError as error:
        raise PromptError(f"{file}:{error.lineno}: {error.message}") from None


def _schema(file: Path) -> dict[str, object] | None:
    if not file.exists():
        return None
    try:
        schema: dict[str, object] = json.loads(file.read_text(encoding="utf-8"))
        validator_of(schema)
    except (OSError, ValueError) as error:
        raise PromptError(f"{file}: not JSON: {error}") from None
    except Uncheckable as error:
        raise PromptError(f"{file}: {error}") from None
    return schema


def _about(file: Path) -> About:
    if not file.exists():
        return About()
    try:
        return About.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PromptError(f"{file}: cannot be read: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise PromptError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
