"""What an answer may rest on: the passages, else the parts, else the given context."""

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache

from contracts.item import Item, Passage, Quote
from services.judge.domain.claims import Claim
from shared.text import sentences

_ITEM = re.compile(r"^(?:[-*•–—▪◦‣·]|\(?[a-zA-Z]\)|\(?[ivxIVX]{1,5}\)|\d{1,2}[.)])\s")


class Reading:
    """A text in its sentences."""

    def __init__(self, text: str) -> None:
        self._text = text

    @cached_property
    def claims(self) -> list[Claim]:
        found: list[Claim] = []
        lead = ""
        for sentence in sentences(self._text):
            lead = lead if lead and (_ITEM.match(sentence) or found[-1].text == lead) else ""
            found.append(Claim(sentence, lead))
            lead = sentence if sentence.endswith(":") else lead
        return found

    @cached_property
    def plain(self) -> str:
        return Claim(self._text).plain

    @cached_property
    def plain_sentences(self) -> str:
        """The text as its sentences joined: the marks of lists and tables are gone, as they are in quotes."""
        return " ".join(claim.plain for claim in self.claims)


@lru_cache(512)
def reading(text: str) -> Reading:
    """The passages of late are kept as they were read: those that are asked for come again and again."""
    return Reading(text)


class Source:
    """A passage that an answer may rest on."""

    def __init__(self, passage: Passage) -> None:
        self.passage = passage
        self._reading = reading(passage.text)

    @property
    def claims(self) -> list[Claim]:
        return self._reading.claims

    @cached_property
    def head(self) -> Claim:
        """Title, section and clause: a sentence says its words without repeating them."""
        passage = self.passage
        return Claim(f"{passage.title} {passage.section} {passage.clause}")

    def holds(self, claim: Claim) -> bool:
        """Whether the passage says this word for word."""
        text = self._reading
        return _stands_in(claim.plain, text.plain) or _stands_in(claim.plain, text.plain_sentences)

    def quotes(self, claim: Claim) -> list[Quote]:
        """The sentence, and before it the line that opens its list."""
        return [self.quote(text) for text in (claim.lead, claim.text) if text]

    def quote(self, text: str) -> Quote:
        return self.passage.quote(text)


def _stands_in(wanted: str, text: str) -> bool:
    """Whether the text has these words, and no longer ones that they are a part of. No pattern: each would be another,
    and compiling it takes longer than all searches."""
    start = text.find(wanted)
    while start >= 0:
        end = start + len(wanted)
        if not (_is_of_word(text[start - 1 : start]) or _is_of_word(text[end : end + 1])):
            return True
        start = text.find(wanted, start + 1)
    return False


def _is_of_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def sources(item: Item) -> list[Source]:
    """The sources of an item, numbered as its prompt numbered them: [1] is the first."""
    return [Source(passage) for passage in item.passages or _of_parts(item) or _of_context(item)]


def _of_parts(item: Item) -> Sequence[Passage]:
    return [
        Passage(chunk=f"part#{part.index}", document="parts", title=f"part {part.index + 1}", text=part.text)
        for part in item.parts
        if part.failure is None and part.text
    ]


def _of_context(item: Item) -> Sequence[Passage]:
    context = item.input.context
    return [Passage(chunk="context#0", document="context", title="context", text=context)] if context else []
