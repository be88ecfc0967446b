"""What is taken out of samples, and what stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.redact import redacted


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("write to jane.doe+x@mail.example.co.uk now", "write to [email] now"),
        ("card 4111 1111 1111 1111, please", "card [card], please"),
        ("card 4111-1111-1111-1111.", "card [card]."),
        ("378282246310005", "[card]"),
        ("call +49 30 901820 or (555) 123-4567", "call [phone] or [phone]"),
        ("0049-30-901820", "[phone]"),
        ("IBAN DE89 3704 0044 0532 0130 00", "IBAN [iban]"),
        ("SSN 078-05-1120", "SSN [ssn]"),
        ("from 192.168.1.20", "from [ip]"),
        ("nats://me:word@host:4222", "nats://[secret]@host:4222"),
        ("key sk-abcdefghijklmnop1234", "key [secret]"),
    ],
)
def test_what_tells_who_somebody_is_goes(text: str, left: str) -> None:
    assert redacted(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "Does plan HMO-483 cover physiotherapy after ACL surgery?",
        "clause 4.2, page 3, up to 60 visits",
        "from 2025-01-31 to 31.12.2025",
        "1234567890123 rows",  # no card: its check digit is wrong
        "a limit of 5000000 tokens",
        "$1,250.00 a year",
    ],
)
def test_what_the_documents_speak_of_stays(text: str) -> None:
    assert redacted(text) == text


@given(st.text(max_size=200))
def test_a_second_time_changes_nothing(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)
