"""The numbers that Word shows before paragraphs and does not write into their text: "4.2", "(a)"."""

from collections import defaultdict
from typing import Any

from docx.oxml.ns import qn
from docx.text.paragraph import Paragraph

_FORMATS = {"decimal", "lowerLetter", "upperLetter", "lowerRoman", "upperRoman"}
_ROMAN = ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"),
          (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))  # fmt: skip


class _Level:
    """How one level of a list is numbered: `text` such as "%1.%2"."""

    def __init__(self, element: Any) -> None:
        self.format = _value(element, "w:numFmt") or "decimal"
        self.text = _value(element, "w:lvlText") or ""
        self.start = int(_value(element, "w:start") or 1)


class Numbering:
    """Counts through a document's lists, paragraph by paragraph."""

    def __init__(self, document: Any) -> None:
        self._levels: dict[str, dict[int, _Level]] = {}  # by list id
        self._abstract: dict[str, str] = {}  # lists that share a definition count on together
        self._counts: dict[str, dict[int, int]] = defaultdict(dict)
        root = _numbering_root(document)
        if root is not None:
            self._read(root)

    def _read(self, root: Any) -> None:
        definitions = {
            element.get(qn("w:abstractNumId")): {
                int(level.get(qn("w:ilvl"))): _Level(level) for level in element.findall(qn("w:lvl"))
            }
            for element in root.findall(qn("w:abstractNum"))
        }
        for number in root.findall(qn("w:num")):
            abstract = _value(number, "w:abstractNumId") or ""
            self._levels[number.get(qn("w:numId"))] = definitions.get(abstract, {})
            restarts = number.find(qn("w:lvlOverride")) is not None
            self._abstract[number.get(qn("w:numId"))] = number.get(qn("w:numId")) if restarts else f"a{abstract}"

    def next(self, paragraph: Paragraph) -> str:
        """The number of this paragraph, a dash for a bullet, or nothing."""
        place = _place(paragraph)
        if place is None or place[0] not in self._levels:
            return ""
        list_id, depth = place
        levels = self._levels[list_id]
        if depth not in levels:
            return ""
        counts = self._counts[self._abstract[list_id]]
        counts[depth] = counts[depth] + 1 if depth in counts else levels[depth].start
        for deeper in [level for level in counts if level > depth]:
            del counts[deeper]
        return _shown(levels, counts, depth)


def _shown(levels: dict[int, _Level], counts: dict[int, int], depth: int) -> str:
    if levels[depth].format not in _FORMATS:
        return "-" if levels[depth].format == "bullet" else ""
    text = levels[depth].text
    for level in range(depth + 1):
        if level in levels:
            count = counts.get(level, levels[level].start)
            text = text.replace(f"%{level + 1}", _formatted(count, levels[level].format))
    return text


def _formatted(count: int, style: str) -> str:
    if style.endswith("Letter"):
        text = chr(ord("a") + (count - 1) % 26) * ((count - 1) // 26 + 1)
    elif style.endswith("Roman"):
        text, left = "", count
        for value, letters in _ROMAN:
            text += letters * (left // value)
            left %= value
    else:
        text = str(count)
    return text.upper() if style.startswith("upper") else text


def _place(paragraph: Paragraph) -> tuple[str, int] | None:
    """List id and level of a paragraph, from itself or from its style."""
    elements = [paragraph._p.pPr]  # python-docx has no public way to the numbering
    style = paragraph.style
    while style is not None and len(elements) < 10:
        elements.append(style.element.find(qn("w:pPr")))
        style = getattr(style, "base_style", None)
    for element in elements:
        found = element.find(qn("w:numPr")) if element is not None else None
        if found is not None and (list_id := _value(found, "w:numId")):
            return None if list_id == "0" else (list_id, int(_value(found, "w:ilvl") or 0))
    return None


def _numbering_root(document: Any) -> Any:
    """The numbering part of a document, or None where it has no lists."""
    for relation in document.part.rels.values():
        if relation.reltype.endswith("/numbering"):
            return relation.target_part.element
    return None


def _value(element: Any, name: str) -> str | None:
    child = element.find(qn(name))
    value = child.get(qn("w:val")) if child is not None else None
    return str(value) if value is not None else None
