"""A message's Struct as a JSON Schema (draft 2020-12) that stands alone: all it refers to lies in its `$defs`."""

import inspect
import re
from functools import cache
from typing import Any

import msgspec
from msgspec import Struct

from contracts.messages import RAW, Contract

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REF = "#/$defs/{name}"
_COMMENTED_FIELD = re.compile(r"^    (\w+): .*?  # (.+)$", re.MULTILINE)


@cache
def schema_of(contract: Contract) -> Schema:
    """The schema of one message, not to be changed. Comments beside fields become their descriptions."""
    structs = (contract.struct, *(held for (owner, _), held in RAW.items() if owner is contract.struct))
    _, definitions = msgspec.json.schema_components(structs, schema_hook=_anything, ref_template=_REF)
    for kind in _structs_behind(structs):
        if kind.__name__ in definitions:
            _describe(definitions[kind.__name__], kind)
    for (owner, name), held in RAW.items():
        if owner is contract.struct:
            definitions[owner.__name__]["properties"][name]["items"] = {"$ref": _REF.format(name=held.__name__)}
    body = _plain(definitions.pop(contract.name))
    schema = {"$schema": DIALECT, "$id": f"urn:penstock:{contract.name}:v{contract.version}", **body}
    if _points_to(definitions, contract.name) or _points_to(body, contract.name):
        definitions[contract.name] = body
    if definitions:
        schema["$defs"] = {name: _plain(definitions[name]) for name in sorted(definitions)}
    return schema


def _anything(kind: type) -> Schema:
    if kind is object:
        return {"description": "any JSON value"}
    raise NotImplementedError


def _structs_behind(roots: tuple[type[Struct], ...]) -> list[type[Struct]]:
    """All Struct classes that the roots can hold."""
    found: dict[str, type[Struct]] = {}
    todo: list[Any] = list(msgspec.inspect.multi_type_info(roots))
    while todo:
        node = todo.pop()
        if isinstance(node, msgspec.inspect.StructType):
            if node.cls.__name__ in found:
                continue
            found[node.cls.__name__] = node.cls
            todo.extend(field.type for field in node.fields)
        for attribute in ("item_type", "key_type", "value_type", "types"):
            inner = getattr(node, attribute, ())
            todo.extend(inner if isinstance(inner, tuple) else (inner,))
    return list(found.values())


def _describe(schema: Schema, kind: type[Struct]) -> None:
    for name, comment in _COMMENTED_FIELD.findall(inspect.getsource(kind)):
        if name in schema["properties"]:
            schema["properties"][name]["description"] = comment


def _plain(node: Any) -> Any:
    """Without `discriminator`, which is OpenAPI's word and not JSON Schema's: the tags' `enum`s say the same."""
    if isinstance(node, dict):
        unwanted = ("discriminator",) if "anyOf" in node else ()
        return {key: _plain(value) for key, value in node.items() if key not in unwanted}
    return [_plain(value) for value in node] if isinstance(node, list) else node


def _points_to(node: Any, name: str) -> bool:
    if isinstance(node, dict):
        return node.get("$ref") == _REF.format(name=name) or any(_points_to(value, name) for value in node.values())
    return isinstance(node, list) and any(_points_to(value, name) for value in node)
