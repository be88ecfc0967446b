"""Takes out of a text what tells who somebody is or opens their account. Pure.

Regular expressions, on purpose: libraries for it bring language models (Presidio: spaCy's, some hundred megabytes a
process) or are no longer kept, and what is logged is a sample that was asked for, not a promise of anonymity. Names and
postal addresses stay. Where in doubt more goes rather than less.
"""

import re

_SEPARATED = r"[ \-.]?"
_EMAIL = re.compile(r"[\w.+\-]+@[\w\-]+(?:\.[\w\-]+)+")
_URL_SECRET = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")
_KEY = re.compile(r"\b(?:sk|pk|ghp|xox[abp]|AKIA|eyJ)[\w\-]{12,}[\w\-.]*")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_CARD = re.compile(rf"(?<![\w.])\d(?:{_SEPARATED}\d){{12,18}}(?!\w)")
_SSN = re.compile(r"\b\d{3}-\d{2}-\d{4}\b")
_PHONE = re.compile(r"(?<![\w.])(?:\+|00|\()?\d[\d() ./\-]{6,}\d(?!\w)")
_IP = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b")
_DATE = re.compile(r"\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{4}")
_PHONE_DIGITS = range(7, 16)  # ITU-T E.164: at most 15


def redacted(text: str) -> str:
    """The text with `[email]`, `[card]`, `[phone]` … in the place of what was there."""
    text = _URL_SECRET.sub("[secret]", text)
    text = _KEY.sub("[secret]", text)
    text = _EMAIL.sub("[email]", text)
    text = _IBAN.sub("[iban]", text)
    text = _CARD.sub(lambda found: "[card]" if _is_card(found[0]) else found[0], text)
    text = _SSN.sub("[ssn]", text)
    text = _IP.sub("[ip]", text)
    return _PHONE.sub(lambda found: "[phone]" if _is_phone(found[0]) else found[0], text)


def _is_card(text: str) -> bool:
    """The check digit of card numbers (Luhn, ISO/IEC 7812-1)."""
    digits = [int(digit) for digit in text if digit.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(digits[-1::-2])) % 10 == 0


def _is_phone(text: str) -> bool:
    """Dates are none, nor are numbers that nobody has divided, such as a count."""
    digits = sum(letter.isdigit() for letter in text)
    divided = not text.isdigit()
    return digits in _PHONE_DIGITS and divided and not _DATE.fullmatch(text)
