"""Whether two questions that are much alike ask the same: what vectors do not see.

The encoder puts "in 2024" next to "in 2025", "covered" next to "not covered" and "maternity leave" next to "paternity
leave". So an answer of an earlier question is given only where nothing that tells questions apart tells these two
apart. What may differ is order, grammar and words that carry no meaning.
"""

import re
from collections import Counter

from shared.terms import STOP_WORDS, rarity, stem, words

_COUNTED = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen twenty""".split()  # noqa: SIM905  twenty quoted words would fill the page
_ORDERED = "zeroth first second third fourth fifth sixth seventh eighth ninth tenth".split()  # noqa: SIM905  the same
_VALUES = (
    {word: value for some in (_COUNTED, _ORDERED) for value, word in enumerate(some)}
    | {"once": 1, "twice": 2, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80}
    | {"ninety": 90, "hundred": 100}
)
_NUMBER = re.compile(r"[^\W_]*\d[^\W_]*(?:[.,:/-][^\W_]*\d[^\W_]*)*")
_ROMAN = re.compile(r"\b[IVX]{2,}\b")
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nobody|nothing|neither|nor|without|cannot|except|unless|exclud\w*|exempt\w*|\w+n['’]t)\b",
    re.IGNORECASE,
)
_PREFIX = re.compile(r"^(?:un|in|im|il|ir|dis|non|mis)-?")
_NAME = re.compile(r"[^\W\d_][\w'’-]*")
_PLAIN = frozenset(
    map(
        stem,
        """allowed amount applies charged does get give given go have high made make many much must need number part
        permitted person possible put required take use want way""".split(),  # noqa: SIM905  the same
    )
)  # words that questions are made of
_TELLING = frozenset("into off out only over same through under up".split())  # noqa: SIM905  the same
_FORMS = {"paid": "pay", "kept": "keep", "held": "hold", "sent": "send", "daily": "day", "yearly": "year"} | {
    "annual": "year", "monthly": "month", "weekly": "week", "frequently": "often",
}  # fmt: skip
_ASKED = (
    (re.compile(r"\bhow many\b|\bnumber of\b", re.IGNORECASE), "how many"),
    (re.compile(r"\bhow (?:often|frequently)\b", re.IGNORECASE), "how often"),
    (re.compile(r"\bhow (?:long|far|old|soon|fast|tall)\b", re.IGNORECASE), "how long"),
    (re.compile(r"\bhow (?:much|high|large)\b", re.IGNORECASE), "what"),
    (re.compile(r"\b(?:who|whom|whose|(?:which|what) person)\b", re.IGNORECASE), "who"),
    (re.compile(r"\bwhen\b", re.IGNORECASE), "when"),
    (re.compile(r"\bwhere\b", re.IGNORECASE), "where"),
    (re.compile(r"\bwhy\b", re.IGNORECASE), "why"),
    (re.compile(r"\bhow\b", re.IGNORECASE), "how"),
    (re.compile(r"\b(?:what|which)\b", re.IGNORECASE), "what"),
)
_DOES = re.compile(r"\bdo\W*$", re.IGNORECASE)  # "what do they do" does not ask "what are they"


def told_apart(one: str, other: str) -> str:
    """What tells two questions apart: number, name, negation, kind, words or order; empty where nothing does."""
    if numbers(one) != numbers(other):
        return "number"
    if not (_has_names_of(one, other) and _has_names_of(other, one)):
        return "name"
    if negations(one) != negations(other) or _opposite(one, other) or _opposite(other, one):
        return "negation"
    if _kind(one) != _kind(other):
        return "kind"
    if content(one) != content(other):
        return "words"
    return "order" if _swapped(words(one), words(other)) else ""


def numbers(text: str) -> Counter[str]:
    """Numbers and codes with digits, spelt alike: 1,000 and 1000, two and 2."""
    found = [token.lower().replace(",", "") for token in _NUMBER.findall(text)]
    spelt = [str(_VALUES[word]) for word in words(text) if word in _VALUES]
    return Counter(found + spelt + _ROMAN.findall(text))


def negations(text: str) -> int:
    """How many words there are that deny."""
    return len(_NEGATION.findall(text))


def names(text: str) -> set[str]:
    """Words with a capital letter: those that do not begin the text, and those with several."""
    found = [match for match in _NAME.finditer(text) if match.group() != match.group().lower()]
    first = len(text) - len(text.lstrip(" \"'“‘("))
    return {
        match.group()
        for match in found
        if (match.start() > first or sum(letter.isupper() for letter in match.group()) > 1)
        and match.group().lower() not in STOP_WORDS
    }


def content(text: str) -> set[str]:
    """The stems of the words that carry meaning; numbers and denials are looked at by themselves."""
    found = [_FORMS.get(word, word) for word in words(text) if not (_NUMBER.match(word) or _NEGATION.fullmatch(word))]
    return {stem(word) for word in found if rarity(word) > 0 or word in _TELLING} - _PLAIN


def _has_names_of(one: str, other: str) -> bool:
    there = {stem(word) for word in words(other)}
    return all(stem(word) in there for name in names(one) for word in words(name))


def _opposite(one: str, other: str) -> bool:
    """Whether a word of one is a word of the other with a denial in front of it."""
    there = content(other)
    bare = {stem(_PREFIX.sub("", word)) for word in words(one) if _PREFIX.match(word) and stem(word) not in there}
    return bool(bare & (there - content(one)))


def _kind(text: str) -> tuple[str, bool]:
    """What is asked for, as far as the words say so; empty: yes or no."""
    return next((kind for form, kind in _ASKED if form.search(text)), ""), bool(_DOES.search(text))


def _swapped(one: list[str], other: list[str]) -> bool:
    """Whether two words have changed places: what the one does to the other, the other does to the one."""
    return sorted(one) == sorted(other) and sum(a != b for a, b in zip(one, other, strict=True)) == 2
