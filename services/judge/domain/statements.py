"""The statements of an answer, with the passages that they cite."""

import re
from collections.abc import Iterator

from msgspec import Struct

from contracts.item import Answer
from services.judge.domain.claims import Claim
from shared.text import sentences

_MARKS = re.compile(r"\s*\[(\d{1,2}(?:\s*[,;]\s*\d{1,2})*)\]")
_REFUSAL = re.compile(r"^\W*the documents do not say\W*$", re.IGNORECASE)
_SAYS_WHAT_IS_NOT_SAID = re.compile(
    r"\b(?:documents?|passages?|sources?) (?:do|does) not (?:say|state|mention|specify|address|tell)\b", re.IGNORECASE
)
_QUOTED = re.compile(r"[\"“]([^\"“”]+)[\"”]")
_QUOTED_WORDS = 3  # shorter pieces in quotation marks are names or emphasis


class Statement(Struct, frozen=True):
    """A sentence of an answer, or a text or number of a JSON answer."""

    text: str

    @property
    def cited(self) -> list[int]:
        """The numbers in its brackets: [2] is the second passage."""
        return [int(number) for marks in _MARKS.findall(self.text) for number in re.findall(r"\d+", marks)]

    @property
    def bare(self) -> str:
        """The sentence without its citations."""
        return _MARKS.sub("", self.text).strip()

    @property
    def quoted(self) -> list[str]:
        """What it puts in quotation marks."""
        return [piece.strip(" .,;") for piece in _QUOTED.findall(self.bare) if len(piece.split()) >= _QUOTED_WORDS]

    @property
    def claims_nothing(self) -> bool:
        """ "Yes." claims nothing by itself; that the documents do not say something needs no passage."""
        return not Claim(self.bare).words or bool(_SAYS_WHAT_IS_NOT_SAID.search(self.bare))


def is_refusal(answer: Answer) -> bool:
    """Whether the answer says that the documents do not say, and nothing else."""
    return answer.mode == "refused" or bool(_REFUSAL.match(answer.text))


def statements(answer: Answer) -> list[Statement]:
    """The sentences of the text, or the texts and numbers of a JSON answer."""
    if answer.data is not None:
        return [Statement(sentence) for leaf in _leaves(answer.data) for sentence in sentences(leaf)]
    found: list[str] = []
    for sentence in sentences(answer.text):
        if found and not _MARKS.sub("", sentence).strip(" ."):
            found[-1] += f" {sentence}"  # a citation after the full stop
        else:
            found.append(sentence)
    return [Statement(sentence) for sentence in found]


def _leaves(data: object) -> Iterator[str]:
    if isinstance(data, dict):
        for value in data.values():
            yield from _leaves(value)
    elif isinstance(data, list):
        for value in data:
            yield from _leaves(value)
    elif isinstance(data, str | int | float) and not isinstance(data, bool):
        yield str(data)
