"""Cuts a document into parts for map-reduce: none beyond the size asked for, ended at headings where one is near."""

from collections.abc import Sequence

from msgspec.structs import replace

from contracts.item import Part
from services.ingest.domain.blocks import Reading
from services.ingest.domain.outline import Section, outline
from services.ingest.domain.units import Unit, text_of, units_of

_FULL_ENOUGH = 0.6  # a part this full is closed before a section that would not fit whole


def split(reading: Reading, tokens: int) -> list[Part]:
    """Parts of at most `tokens` tokens in reading order (or one sentence, if that is longer)."""
    packer = _Packer(tokens)
    for section in outline(reading):
        packer.add(section)
    packer.close()
    return [Part(index=index, text=text) for index, text in enumerate(packer.parts)]


class _Packer:
    def __init__(self, tokens: int) -> None:
        self.parts: list[str] = []
        self._most = tokens
        self._pending: list[Unit] = []
        self._size = 0
        self._lead = ""  # names the section that a part goes on with
        self._blocks = 0

    def add(self, section: Section) -> None:
        units = self._units(section)
        fits = self._size + sum(unit.tokens for unit in units) <= self._most
        if not fits and self._size >= _FULL_ENOUGH * self._most:
            self.close()
        for unit in units:
            if self._pending and self._size + unit.tokens > self._most:
                self.close()
                self._lead = f"{' › '.join(section.path)} (continued)\n\n" if section.path else ""
            self._pending.append(unit)
            self._size += unit.tokens

    def close(self) -> None:
        if self._pending:
            self.parts.append(self._lead + text_of(self._pending))
        self._pending, self._size, self._lead = [], 0, ""

    def _units(self, section: Section) -> Sequence[Unit]:
        """The section's units, their blocks counted through the whole document."""
        blocks = [section.heading, *section.blocks] if section.heading else section.blocks
        units = [replace(unit, block=unit.block + self._blocks) for unit in units_of(blocks)]
        self._blocks += len(blocks)
        return units
