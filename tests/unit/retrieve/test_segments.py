"""Segments: the pieces of a passage that get vectors of their own."""

import pytest

from services.retrieve.domain.segments import LEAST_CHARACTERS, PER_WINDOW, segments

SENTENCE = "This sentence number {} is long enough to stand for itself."


def test_sentences_that_are_long_enough_stay_apart() -> None:
    text = f"{SENTENCE.format(1)} {SENTENCE.format(2)}"
    assert segments(text) == [SENTENCE.format(1), SENTENCE.format(2)]


def test_short_ones_join_their_neighbour() -> None:
    assert segments(f"Yes. {SENTENCE.format(1)} No.") == [f"Yes. {SENTENCE.format(1)} No."]


def test_no_more_than_seven_for_a_window_and_nothing_is_lost() -> None:
    text = " ".join(SENTENCE.format(n) for n in range(12))
    pieces = segments(text)
    assert len(pieces) == PER_WINDOW
    assert " ".join(pieces) == text
    assert max(map(len, pieces)) < 3 * min(map(len, pieces))


def test_a_longer_passage_may_have_more() -> None:
    text = " ".join(SENTENCE.format(n) for n in range(60))
    pieces = segments(text)
    assert PER_WINDOW < len(pieces) <= PER_WINDOW * 4
    assert " ".join(pieces) == text


@pytest.mark.parametrize("text", ["", "  \n ", "x", "---"])
def test_every_passage_has_one_at_least(text: str) -> None:
    (piece,) = segments(text)
    assert piece


def test_only_a_whole_passage_may_be_shorter_than_the_least() -> None:
    pieces = segments("A. B. C. " + " ".join(SENTENCE.format(n) for n in range(3)) + " D. E.")
    assert all(len(piece) >= LEAST_CHARACTERS for piece in pieces)
