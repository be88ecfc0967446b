"""Rubric files: `<folder>/<name>/<version>.yaml`."""

from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import ValidationError

from services.judge.domain.rubric import Rubric
from shared.errors import ItemError
from shared.settings import SettingsError

BUILT_IN = Path(__file__).parent.parent / "rubrics"


class Rubrics:
    """All rubrics, by name and version."""

    def __init__(self, rubrics: Mapping[str, Mapping[int, Rubric]]) -> None:
        self._rubrics = rubrics

    def get(self, reference: str) -> tuple[str, Rubric]:
        """`name` (its newest version) or `name@version` → `name@version` and the rubric.

        Raises ItemError (malformed) where there is no such rubric; the text names those there are.
        """
        name, _, version = reference.partition("@")
        versions = self._rubrics.get(name)
        if not versions:
            known = ", ".join(sorted(self._rubrics)) or "none"
            raise ItemError("malformed", f"rubric: expected one of {known}, got {reference!r}")
        number = int(version) if version.isdigit() else max(versions)
        if version and (not version.isdigit() or number not in versions):
            known = ", ".join(f"{name}@{n}" for n in sorted(versions))
            raise ItemError("malformed", f"rubric: expected one of {known}, got {reference!r}")
        return f"{name}@{number}", versions[number]


def load_rubrics(*folders: Path) -> Rubrics:
    """Read all rubrics; later folders win. Raises SettingsError that names the file and the field."""
    found: dict[str, dict[int, Rubric]] = {}
    for folder in folders:
        if not folder.is_dir():
            raise SettingsError(f"{folder}: expected a folder with rubrics, there is none")
        for path in sorted(folder.glob("*/*.yaml")):
            if not path.stem.isdigit():
                raise SettingsError(f"{path}: expected a number as the version in the file name, got {path.stem!r}")
            found.setdefault(path.parent.name, {})[int(path.stem)] = _read(path)
    return Rubrics(found)


def _read(path: Path) -> Rubric:
    try:
        return Rubric.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{path}: {where or 'file'}: {first['msg']}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not a YAML file: {str(error).splitlines()[0]}") from None
