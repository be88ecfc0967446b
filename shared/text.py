"""Text helpers that more than one service needs: token counts, sentences."""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer

# Not taken from shared.encoder: services that only count tokens should not load its ONNX runtime.
_TOKENIZER = Path(__file__).parent / "models" / "all-MiniLM-L6-v2-int8" / "tokenizer.json"
_ABBREVIATIONS = frozenset(
    """mr mrs ms dr prof sr jr st no nos art arts sec secs para paras cl fig figs eq ch vol pp p ed eds al etc vs v cf
    e.g i.e eg ie ca approx inc ltd corp co llc plc bros dept est gov gen col lt sgt capt rev hon pres
    jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun ft mt ave blvd rd tel ext
    u.s u.k u.n e.u a.m p.m ph.d b.c a.d d.c n.a""".split()  # noqa: SIM905  sixty quoted words would fill the page
)
_END = re.compile(r"[.!?…]+[\"'”’»)\]]*\s+(?=[\"'“‘«(\[]*[A-Z0-9À-ÖØ-Þ§€$£•])|\s[.!?]\s+")
_MARKER = r"(?:\d{1,3}(?:\.\d{1,3}){0,4}[.)]?|\(?[a-zA-Z]\)|\(?[ivxlcIVXLC]{1,6}[.)]|[A-Z]\.|§+\s?\d[\d.]*)"
_ITEM = re.compile(rf"^(?:[-*•–—▪◦‣·]|{_MARKER}|#{{1,6}}|>)\s")
_ONLY_MARKER = re.compile(rf"^(?:[-*•–—▪◦‣·]|{_MARKER})$")
_TABLE_RULE = re.compile(r"^[\s|:+=_-]*$")
_LONG_LINE = 60  # a line this long that does not end a sentence was wrapped by its layout


@cache
def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(_TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@cache
def vocabulary() -> dict[str, int]:
    """Word pieces with their ids; whole words are in the order of their frequency in English."""
    return dict(_tokenizer().get_vocab())


def token_spans(text: str) -> list[tuple[int, int]]:
    """Where each word piece of a text stands in it: start and end, in characters."""
    return list(_tokenizer().encode(text, add_special_tokens=False).offsets)


def count_tokens(texts: Sequence[str]) -> list[int]:
    """Word pieces of each text, without special tokens."""
    return [len(e.ids) for e in _tokenizer().encode_batch_fast(list(texts), add_special_tokens=False)]


def sentences(text: str) -> list[str]:
    """The sentences of a text in their order, white space collapsed to single spaces, none of them empty.

    A bullet, a table row and a heading on its own line count as sentences; lines that were wrapped by a page's layout
    are joined first; a clause number stays with its clause ("4.2 The plan covers …"); abbreviations ("No. 4", "Inc.",
    "e.g.") and initials do not end a sentence. Joined with spaces, the sentences are the text (rules of tables aside).
    """
    return [sentence for block in _blocks(text) for sentence in _split(block)]


def _blocks(text: str) -> Iterator[str]:
    """Paragraphs, list items, table rows and headings, each on one line."""
    block = ""
    for raw in text.splitlines():
        line = " ".join(raw.split())
        if line and not _TABLE_RULE.match(line) and block and _continues(block, line):
            block = f"{block} {line}"
            continue
        if block:
            yield block
        block = "" if _TABLE_RULE.match(line) else line
    if block:
        yield block


def _continues(block: str, line: str) -> bool:
    """Whether a line goes on with the sentence of the block before it."""
    if _ONLY_MARKER.match(block):
        return True
    if _ITEM.match(line) or "|" in line or "|" in block or block.startswith("#"):
        return False
    if line[0].islower() or block.endswith((",", "-", "–", " and", " or", " of", " the")):
        return True
    last_line_was_long = len(block) >= _LONG_LINE
    return last_line_was_long and not block.endswith((":", ";"))


def _split(block: str) -> Iterator[str]:
    start = 0
    for match in _END.finditer(block):
        piece = block[start : match.end()].strip()
        if _ends_sentence(piece):
            yield piece
            start = match.end()
    rest = block[start:].strip()
    if rest:
        yield rest


def _ends_sentence(piece: str) -> bool:
    """False after abbreviations, initials and bare clause numbers, where the full stop means something else."""
    if _ONLY_MARKER.match(piece):
        return False
    if not piece.endswith(".") or piece.endswith(" ."):  # text that was tokenised once has a space before the stop
        return True
    word = piece[:-1].rsplit(" ", 1)[-1].lstrip("\"'“‘«([")
    is_initial = len(word) == 1 and word.isalpha() and word.isupper()
    return not (is_initial or word.lower() in _ABBREVIATIONS)
