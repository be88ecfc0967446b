"""Identifiers: codes such as HMO-483, SKU1002, "PPO 900" or order numbers, which a reader may not mix up."""

import re

from shared.terms import words

_CODE = re.compile(
    r"""(?<![A-Za-z0-9])(?:
        [A-Za-z]{1,10}[-_/]\d[A-Za-z0-9]*(?:[-_/]\d[A-Za-z0-9]*)*  # HMO-483, sku-17b, A-12-4
      | [A-Z]{2,6}\s\d{2,6}                                       # PPO 900
      | [A-Za-z]{1,6}\d{2,}[A-Za-z0-9]*                           # SKU1002, I10
      | \d{5,}                                                    # 4821377
    )(?![A-Za-z0-9])""",
    re.VERBOSE,
)
_NOT_A_CODE = re.compile(
    r"(?:pre|post|mid|late|early|circa|non|top|since|[a-z]{5,}|[A-Z][a-z]{4,})[-_/](?:1\d|20)?\d\ds?"
    r"|[A-Za-z]+\s(?:19|20)\d\d",
)
_SEPARATORS = re.compile(r"[-_/\s]")
_RUN = re.compile(r"[a-z]+|\d+")


def identifiers(text: str) -> frozenset[str]:
    """The codes in a text, without separators and in lower case: "HMO-483" and "hmo 483" are the same one.

    Years and decades ("pre-1990s", "budget-2025") are not codes.
    """
    found = (match.group() for match in _CODE.finditer(text))
    return frozenset(_SEPARATORS.sub("", code).lower() for code in found if not _NOT_A_CODE.fullmatch(code))


def without(text: str, codes: frozenset[str]) -> str:
    """The text with these codes left out."""

    def keep(match: re.Match[str]) -> str:
        return "" if _SEPARATORS.sub("", match.group()).lower() in codes else match.group()

    return _CODE.sub(keep, text)


def mentions(code: str, text: str, codes: frozenset[str]) -> bool:
    """Whether a text with these codes names `code`, be it spelt another way ("ISO/IEC 27001" for iso27001)."""
    return code in codes or set(_RUN.findall(code)) <= set(words(text))
