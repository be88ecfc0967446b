"""`shared.text.sentences` on the kinds of text that documents are made of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.text import sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\t\n", []),
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("He said “Stop.” Then he left.", ["He said “Stop.”", "Then he left."]),
        (
            "Dr. Smith of Acme Inc. Ltd. paid 3.5 million, e.g. to J. K. Rowling. It was No. 4.",
            ["Dr. Smith of Acme Inc. Ltd. paid 3.5 million, e.g. to J. K. Rowling.", "It was No. 4."],
        ),
        ("The U.S. Army left. They rested.", ["The U.S. Army left.", "They rested."]),
        (
            "4.2 The plan covers 20 visits. A referral is needed.\n4.3 Massage is not covered.",
            ["4.2 The plan covers 20 visits.", "A referral is needed.", "4.3 Massage is not covered."],
        ),
        ("1. Definitions. “Agreement” means this paper.", ["1. Definitions.", "“Agreement” means this paper."]),
        (
            "You need:\n- a passport\n- a visa, valid for\n  six months\n• two photos",
            ["You need:", "- a passport", "- a visa, valid for six months", "• two photos"],
        ),
        (
            "| Service | Cost |\n|---|---|\n| Physiotherapy | $20 |\n| X-ray | $35 |",
            ["| Service | Cost |", "| Physiotherapy | $20 |", "| X-ray | $35 |"],
        ),
        (
            "Leave policy\nEmployees may carry over five days of unused leave to the\nFollowing year. Not more.",
            ["Leave policy", "Employees may carry over five days of unused leave to the Following year.", "Not more."],
        ),
        ("# Fees\nThe fee is due\nwithin ten days.", ["# Fees", "The fee is due within ten days."]),
        ("lift in a slipstream . the wing was thin .", ["lift in a slipstream .", "the wing was thin ."]),
        ("4.2\nPhysiotherapy is covered.", ["4.2 Physiotherapy is covered."]),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@given(st.text(alphabet="ab A.1(|-\n?!“”", max_size=80))
def test_nothing_but_table_rules_is_lost_or_made_up(text: str) -> None:
    kept = "".join("".join(sentences(text)).split())
    whole = "".join(text.split())
    assert [c for c in kept if c not in "|-."] == [c for c in whole if c not in "|-."]
    assert all(s == " ".join(s.split()) and s for s in sentences(text))
