"""`python -m shared.schemas`: write schemas and AsyncAPI; `--check` writes nothing and names what is out of step."""

import argparse
import json
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import yaml

from contracts.messages import ASYNCAPI, CONTRACTS, SCHEMAS
from shared.schemas.asyncapi import document
from shared.schemas.compatibility import breaking
from shared.schemas.json_schema import schema_of


def main(arguments: list[str] | None = None) -> int:
    """0: in step; 1: not, or a breaking change without a new version."""
    parser = argparse.ArgumentParser(prog="python -m shared.schemas", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 naming what is out of step")
    parser.add_argument("--unreleased", action="store_true", help="write even what breaks: nobody holds the old form")
    given = parser.parse_args(arguments)
    faults = [] if given.unreleased else list(_breaking())
    faults += _out_of_step() if given.check else []
    if not given.check and not faults:
        _write()
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def _files() -> dict[Path, str]:
    """What the generated files should hold."""
    schemas = {SCHEMAS / c.file: json.dumps(schema_of(c), indent=2, ensure_ascii=False) + "\n" for c in CONTRACTS}
    text = yaml.dump(document(version("penstock")), sort_keys=False, allow_unicode=True, width=120, Dumper=_Readable)
    return {**schemas, ASYNCAPI: text}


def _breaking() -> Iterator[str]:
    for contract in CONTRACTS:
        stored = SCHEMAS / contract.file
        if stored.exists():
            for change in breaking(json.loads(stored.read_bytes()), schema_of(contract)):
                yield f"{stored.name}: {change}; raise the version of {contract.name} in contracts/messages.py"


def _out_of_step() -> list[str]:
    wanted = _files()
    stale = [p for p, text in wanted.items() if not p.exists() or p.read_text(encoding="utf-8") != text]
    return [f"{p.relative_to(ASYNCAPI.parent.parent)}: out of step, run `python -m shared.schemas`" for p in stale]


def _write() -> None:
    SCHEMAS.mkdir(exist_ok=True)
    for path, text in _files().items():
        path.write_text(text, encoding="utf-8")


class _Readable(yaml.SafeDumper):
    """Long texts as blocks, no anchors."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: _Readable, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Readable.add_representer(str, _text)

if __name__ == "__main__":
    sys.exit(main())
