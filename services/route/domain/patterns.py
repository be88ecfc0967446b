"""All patterns by name: every module of `services/route/patterns/` gives one as PATTERN."""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from services.route import patterns as folder
from services.route.domain.gate import Expert
from services.route.domain.pattern import Pattern
from shared.errors import Rejected


@dataclass(frozen=True)
class Patterns:
    """The patterns that jobs can name."""

    by_name: Mapping[str, Pattern]
    experts: Sequence[Expert] = ()  # among whom some choose

    def get(self, name: str) -> Pattern:
        """The pattern of this name; raises Rejected that lists the known names."""
        found = self.by_name.get(name)
        if found is None:
            raise Rejected(f"no such pattern {name!r}; known are {', '.join(self.by_name)}")
        return found

    def __iter__(self) -> Iterator[Pattern]:
        return iter(self.by_name.values())


def load_patterns(experts: Sequence[Expert] = ()) -> Patterns:
    """Import every pattern. A name is its file's name, with hyphens in place of underscores."""
    found = {}
    for module in sorted(pkgutil.iter_modules(folder.__path__), key=lambda module: module.name):
        pattern: Pattern = importlib.import_module(f"{folder.__name__}.{module.name}").PATTERN
        if pattern.name != module.name.replace("_", "-"):
            raise ValueError(f"{module.name}.py: expected a pattern of that name, got {pattern.name!r}")
        found[pattern.name] = pattern
    return Patterns(found, experts)
