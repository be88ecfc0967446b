"""What a question asks for: its terms, the kind of answer it expects, the identifiers it names."""

import itertools
import re
from typing import Literal

from msgspec import Struct

from services.generate_gpu.domain.identifiers import identifiers, without
from shared.terms import stem, terms, words

Kind = Literal["time", "money", "number", "person", "place", "reason", "open"]

_NUMBER_WORDS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|hundreds?|thousands?|"
    "millions?|billions?|dozens?|half|third|quarter|none|no|zero|once|twice|unlimited"
)
_MONTHS = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    "nov(?:ember)?|dec(?:ember)?"
)
_ASKS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    (
        "time",
        re.compile(
            r"\bwhen\b|\b(?:what|which) (?:\w+ )?(?:year|date|day|month|century|decade|time|period|deadline)\b"
            r"|\bhow (?:long|soon|quickly|late)\b|\bdeadline\b"
        ),
    ),
    (
        "money",
        re.compile(r"\bhow (?:much|expensive)\b|\b(?:price|costs?|fees?|co-?pay(?:ment)?|salary|percent\w*|rate)\b"),
    ),
    (
        "number",
        re.compile(
            r"\bhow (?:many|old|far|tall|large|big|high|often|fast|deep|wide|heavy)\b|\bnumber of\b"
            r"|\b(?:limit|maximum|minimum|average|population)\b"
        ),
    ),
    ("person", re.compile(r"\bwho(?:m|se)?\b")),
    ("place", re.compile(r"\bwhere\b|\b(?:what|which) (?:\w+ )?(?:city|country|state|place|location|town|region)\b")),
    ("reason", re.compile(r"\bwhy\b|\bwhat (?:is|was|were) the reasons?\b|\bwhat caused\b")),
)
_NUMBER = re.compile(rf"\d|\b(?:{_NUMBER_WORDS})\b", re.IGNORECASE)
_HOLDS: dict[Kind, re.Pattern[str]] = {
    "time": re.compile(
        rf"\b(?:1\d{{3}}|20\d\d)s?\b|\b(?:{_MONTHS})\b|\b\d{{1,2}}(?:st|nd|rd|th)\b|\d:\d\d|\bcentur"
        r"|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day|\b(?:spring|summer|autumn|winter|immediately|annually|daily)\b"
        r"|\b(?:years?|days?|weeks?|months?|hours?|minutes?)\b",
        re.IGNORECASE,
    ),
    "money": re.compile(rf"[$€£¥%]|{_NUMBER.pattern}|\bpercent|\bfree\b|\bfull\b", re.IGNORECASE),
    "number": _NUMBER,
    "place": re.compile(r"\b(?:in|at|near|from|to|of|on|via) (?:the )?[A-Z]|\.(?:com|org|net)\b"),
    "reason": re.compile(
        r"\b(?:because|due to|since|so that|in order to|as a result|therefore|caus\w+|reasons?|led to|owing to)\b",
        re.IGNORECASE,
    ),
}
_COVERAGE = re.compile(
    r"^(?:is|are|do|does|can|will|would|has|have)\b.*\b(?:cover|pays? for|include|offer|reimburse|exclude|insure|sell)",
    re.IGNORECASE,
)
_NAME = re.compile(r"\b[A-Z][\w'’-]+")
_CLAUSE = re.compile(r"\b(?:clause|section|article|paragraph|§)\s*(\d+(?:\.\d+)*)", re.IGNORECASE)


class Question(Struct, frozen=True):
    """A question as the reader sees it."""

    text: str  # without the codes that are known from titles
    terms: dict[str, float]  # stem → rarity
    pairs: frozenset[tuple[str, str]]  # neighbouring stems
    kind: Kind
    codes: frozenset[str]
    is_of_coverage: bool  # "does it cover X?": everything hangs on X
    clause: str  # of "what does clause 4.2 say"

    @property
    def weight(self) -> float:
        return sum(self.terms.values()) or 1.0


def understand(text: str, titles: frozenset[str] = frozenset()) -> Question:
    """Read a question. Codes that stand in `titles` choose the document; they tell no sentences of it apart."""
    plain = without(text, titles)
    lower = text.lower()
    kind: Kind = next((kind for kind, pattern in _ASKS if pattern.search(lower)), "open")
    clause = _CLAUSE.search(text)
    return Question(
        text=plain.strip(" ?!."),
        terms=terms(plain),
        pairs=pairs(plain),
        kind=kind,
        codes=identifiers(text),
        is_of_coverage=bool(_COVERAGE.search(text.strip())),
        clause=clause.group(1) if clause else "",
    )


def fits(question: Question, sentence: str) -> float:
    """1 where the sentence holds the kind of thing that is asked for, −1 where it does not, 0 where any will do."""
    if question.kind == "open":
        return 0.0
    if question.kind == "person":
        known = set(words(question.text))
        return 1.0 if any(not set(words(name)) <= known for name in _names(sentence)) else -1.0
    return 1.0 if _HOLDS[question.kind].search(sentence) else -1.0


def pairs(text: str) -> frozenset[tuple[str, str]]:
    """Neighbouring stems of a text."""
    stems = [stem(word) for word in words(text)]
    return frozenset(itertools.pairwise(stems))


def _names(sentence: str) -> list[str]:
    """Capitalised words, but for the sentence's first, which is capitalised anyway, unless a second one follows it."""
    found = list(_NAME.finditer(sentence))
    if found and found[0].start() <= 1 and not (len(found) > 1 and found[1].start() == found[0].end() + 1):
        found = found[1:]
    return [match.group() for match in found]
