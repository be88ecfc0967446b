"""Which changes of a published schema break those who hold the old form."""

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]


def breaking(old: Schema, new: Schema) -> list[str]:
    """What a reader or writer of `old` would trip over in `new`, one sentence each; empty where all goes on working.

    New optional fields, new alternatives of a union and new descriptions do no harm. A changed default does: defaults
    are left out on the wire, so stored messages would change their meaning.
    """
    return list(_Comparison(old, new).run())


class _Comparison:
    def __init__(self, old: Schema, new: Schema) -> None:
        self._old, self._new = old, new
        self._seen: set[tuple[str, str]] = set()

    def run(self) -> Iterator[str]:
        yield from self._compare(self._old, self._new, str(self._old.get("title", "message")))

    def _compare(self, old: Schema, new: Schema, where: str) -> Iterator[str]:
        pair = (str(old.get("$ref", "")), str(new.get("$ref", "")))
        if all(pair):
            if pair in self._seen:
                return
            self._seen.add(pair)
        old, new = _resolve(old, self._old), _same_alternative(old, new)
        new = _resolve(new, self._new)
        where = str(old["title"]) if all(pair) and "title" in old else where
        yield from _types(old, new, where)
        yield from self._fields(old, new, where)
        yield from self._alternatives(old, new, where)
        for inner in ("items", "additionalProperties"):
            if isinstance(old.get(inner), dict) and isinstance(new.get(inner), dict):
                yield from self._compare(old[inner], new[inner], f"{where}[]")

    def _fields(self, old: Schema, new: Schema, where: str) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        for name in before.keys() - after.keys():
            yield f"{where}.{name}: was removed"
        for name in sorted(set(new.get("required", ())) - set(old.get("required", ()))):
            yield f"{where}.{name}: is now required"
        for name in sorted(set(old.get("required", ())) & after.keys() - set(new.get("required", ()))):
            yield f"{where}.{name}: is no longer required, so readers of the old form may miss it"
        for name in sorted(before.keys() & after.keys()):
            if "default" in before[name] and before[name]["default"] != after[name].get("default"):
                yield f"{where}.{name}: default changed from {before[name]['default']} to {after[name].get('default')}"
            yield from self._compare(before[name], after[name], f"{where}.{name}")

    def _alternatives(self, old: Schema, new: Schema, where: str) -> Iterator[str]:
        offered = {_label(option): option for option in new.get("anyOf", ())}
        for option in old.get("anyOf", ()):
            if (label := _label(option)) in offered:
                yield from self._compare(option, offered[label], where)
            else:
                yield f"{where}: no longer takes {label}"


def _types(old: Schema, new: Schema, where: str) -> Iterator[str]:
    before, after = _kind(old), _kind(new)
    if before != after and not _any_value(new):
        yield f"{where}: type changed from {before} to {after}"
    values: list[object] = old.get("enum", [])
    if gone := set(map(str, values)) - set(map(str, new.get("enum", values))):
        yield f"{where}: no longer takes {', '.join(sorted(gone))}"
    if new.get("additionalProperties") is False and old.get("additionalProperties") is not False:
        yield f"{where}: unknown fields are now refused"


def _kind(schema: Schema) -> str:
    """The form of a value: its JSON type, `any of several`, or `anything`."""
    if "anyOf" in schema:
        return "any of several"
    if "enum" in schema:
        return "string"
    return str(schema.get("type", "anything"))


def _same_alternative(old: Schema, new: Schema) -> Schema:
    """Where a plain value became a union: that alternative of the union which is the old form."""
    if "anyOf" in old or "anyOf" not in new:
        return new
    return next((option for option in new["anyOf"] if _label(option) == _label(old)), new)


def _any_value(schema: Schema) -> bool:
    return not schema.keys() - {"description", "default", "title"}


def _label(option: Schema) -> str:
    return str(option.get("$ref", option.get("type", "anything"))).rsplit("/", maxsplit=1)[-1]


def _resolve(schema: Schema, root: Schema) -> Schema:
    if "$ref" not in schema:
        return schema
    target = root
    for part in str(schema["$ref"]).removeprefix("#").strip("/").split("/"):
        target = target[part] if part else target
    return target
