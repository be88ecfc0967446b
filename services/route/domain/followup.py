"""Follow-up questions: what to search for when a question leans on the one before it.

The rule is deterministic, so that the same conversation always searches for the same words. A question leans on its
history where it opens with a connective ("and", "what about"), has at most two content words, or has a pronoun and at
most five content words. Then the content words of the earlier questions, back to the last one that stands alone, go in
front of it.
"""

import re
from collections.abc import Sequence

from contracts.item import Message

_REACH = 3  # earlier questions to go back at most
_BARE = 2  # content words
_SHORT = 5

_WORD = re.compile(r"[^\W_]+(?:[-'’.][^\W_]+)*")
_OPENING = re.compile(r"\s*(and|but|or|also|so|then|what about|how about|what if|what else|why|why not)\b", re.I)
_PRONOUN = re.compile(
    r"\b(it|its|they|them|their|those|these|this|that|he|she|his|her|him|there|one|ones|same)\b", re.I
)
_STOP = frozenset(
    """
    a about after all also am an and any are as at be because been before being but by can cannot could did do
    does doing else for from get gets give had has have having he her here hers him his how i if in into is it
    its just let many me more much must my no not of on one ones only or other our out please same shall she
    should so some such tell than that the their them then there these they this those to too under up us was we
    were what when where which while who whom whose why will with would yes you your
    """.split()  # noqa: SIM905 - a list of 130 quoted words would be harder to read
)


def standalone(question: str, history: Sequence[Message]) -> str:
    """The words to search for; an empty string where the question does by itself."""
    if not leans(question):
        return ""
    known = set(_content(question))
    carried: list[str] = []
    earlier = [turn.content for turn in history if turn.role == "user"]
    for asked in reversed(earlier[-_REACH:]):
        fresh = [word for word in _content(asked) if word not in known]
        known.update(fresh)
        carried = [*fresh, *carried]
        if not leans(asked):
            break
    return f"{' '.join(carried)} {question}" if carried else ""


def leans(question: str) -> bool:
    """Whether the question says too little by itself."""
    words = len(_content(question))
    if _OPENING.match(question) or words <= _BARE:
        return True
    return words <= _SHORT and _PRONOUN.search(question) is not None


def _content(text: str) -> list[str]:
    words = (word for word in _WORD.findall(text))
    return list(dict.fromkeys(word for word in words if word.lower() not in _STOP))
