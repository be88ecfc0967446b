"""What a sentence claims: content words, facts that must not differ, and whether it denies."""

import itertools
import re
from functools import cached_property

from shared.terms import STOP_WORDS, stem, words

_NUMBERS = {
    word: str(value)
    for value, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    )
} | {"twenty": "20", "thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "ninety": "90", "hundred": "100"}
_EMPTY = frozenset({"yes", "accord", "document", "passag", "state", "say", "mention", "follow", "includ", "therefor"})
_THOUSANDS = re.compile(r"(?<=\d)[,'’\s](?=\d{3}\b)")
_DECIMALS = re.compile(r"(\d+)\.(\d+)")
_DENIAL = re.compile(
    r"\b(?:not|no|never|none|neither|nor|without|cannot)\b|n['’]t\b"
    r"|\b(?:exclud|den(?:y|ie)|prohibit|forbid|refus|ineligib|unavailab|unlawful|lapse|reject)\w*",
    re.IGNORECASE,
)
_CLAUSE_ENDS = re.compile(r"[,;:]|\s[–—-]\s|\b(?:but|unless|except|although|however|provided)\b", re.IGNORECASE)
_NAME = re.compile(r"(?<=[\w,;:)’'\"] )[A-Z][\w’-]+")
_SPACES = re.compile(r"\s+")
_QUOTES = str.maketrans({"“": '"', "”": '"', "’": "'", "‘": "'", "„": '"', "–": "-", "—": "-"})


class Claim:
    """A sentence, of an answer or of a passage; `lead` is the line that opens the list it is an item of."""

    def __init__(self, text: str, lead: str = "") -> None:
        self.text = text
        self.lead = lead
        self.full = f"{lead} {text}" if lead else text

    @cached_property
    def plain(self) -> str:
        """Lower case, single spaces, straight quotation marks: equal for two that are the same word for word."""
        return _SPACES.sub(" ", self.text.translate(_QUOTES)).strip().lower()

    @cached_property
    def _stems(self) -> list[str]:
        """Stems of the content words and numbers in their order; "three" is 3, "1,000" is 1000."""
        text = _DECIMALS.sub(r"\1point\2", _THOUSANDS.sub("", self.full))
        kept = (_NUMBERS.get(word, word) for word in words(text) if word not in STOP_WORDS or word in _NUMBERS)
        return [found for found in map(stem, kept) if found not in _EMPTY]

    @cached_property
    def words(self) -> frozenset[str]:
        """The different stems."""
        return frozenset(self._stems)

    @cached_property
    def measures(self) -> frozenset[tuple[str, str]]:
        """Each number with the word that follows it: 90 visits."""
        pairs = itertools.pairwise(self._stems)
        return frozenset((n, unit) for n, unit in pairs if n[:1].isdigit() and not unit[:1].isdigit())

    @cached_property
    def facts(self) -> frozenset[str]:
        """Numbers, codes and names: none of them may be wrong. A name that opens the sentence does not count."""
        names = {stem(word) for name in _NAME.findall(self.full) for word in words(name)}
        return frozenset(word for word in self.words if any(c.isdigit() for c in word) or word in names)

    @cached_property
    def parts(self) -> list["Claim"]:
        """The sentence cut at commas and words such as "unless"; itself where there is nothing to cut."""
        pieces = [piece.strip() for piece in _CLAUSE_ENDS.split(self.text) if piece.strip()]
        return [Claim(piece, self.lead) for piece in pieces] if len(pieces) > 1 else [self]

    @cached_property
    def denies(self) -> bool:
        return bool(_DENIAL.search(self.full))

    def agrees(self, other: "Claim") -> bool:
        """Whether both affirm or both deny, looking at the parts of each that speak of the same."""
        overlaps = [
            (len(mine.words & theirs.words), mine.denies == theirs.denies)
            for mine in self.parts
            for theirs in other.parts
        ]
        most = max(overlap for overlap, _ in overlaps)
        return any(agree for overlap, agree in overlaps if overlap == most)
