"""What `penstock ask` shows while an answer is made."""

from client.cli.ask import Draft
from contracts.job import TokenDelta


def shown(*deltas: TokenDelta) -> str:
    draft, seen = Draft(), [""]
    draft.show = seen.append
    for delta in deltas:
        draft.add(delta)
    return str(seen[-1])


def test_pieces_follow_each_other() -> None:
    assert shown(TokenDelta(0, "Paris, "), TokenDelta(1, "of course.")) == "Paris, of course."


def test_a_higher_attempt_starts_over() -> None:
    assert shown(TokenDelta(0, "Paris, "), TokenDelta(0, "Lyon", 2), TokenDelta(1, ".", 2)) == "Lyon."


def test_a_piece_that_was_missed_leaves_a_mark() -> None:
    assert shown(TokenDelta(0, "Paris"), TokenDelta(2, "course.")) == "Paris … course."
    assert shown(TokenDelta(0, "Paris"), TokenDelta(3, "of course.", 2)) == " … of course."
