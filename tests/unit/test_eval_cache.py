"""The evaluation of the semantic answer cache, and with it the threshold that retrieve is set to."""

from pathlib import Path

import pytest

from client.errors import UsageError
from client.eval.beir import QueryRow
from client.eval.cache import CHOSEN, PAIRS, measured, near_pairs, read_pairs, with_similarities
from services.retrieve.config import RetrieveSettings
from shared.encoder import Encoder


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder()


def test_the_threshold_in_use_lets_no_wrong_pair_through_and_most_right_ones(encoder: Encoder) -> None:
    report = measured(with_similarities(read_pairs(PAIRS), encoder), [])
    assert RetrieveSettings().cache_similarity == CHOSEN
    assert (report.false_hits, report.precision) == (0, 1.0)
    assert report.recall >= 0.65
    assert report.unguarded_false_hits >= 30  # it is the guard that does it


def test_near_queries_without_a_common_answer_count_as_different(encoder: Encoder) -> None:
    rows = [
        QueryRow("a", "Where does the river Rhine begin?", ["Switzerland"]),
        QueryRow("b", "Where does the river Rhine begin", ["in Switzerland"]),
        QueryRow("c", "Where does the river Rhine end?", ["Rotterdam"]),
        QueryRow("d", "Who painted the ceiling?", ["Michelangelo"]),
    ]
    pairs = {(pair.one[-6:], pair.other[-6:]): pair.kind for pair in near_pairs(rows, encoder)}
    assert pairs == {("begin?", " begin"): "same", ("begin?", "e end?"): "other", (" begin", "e end?"): "other"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("same|only one", "line 1: expected kind|question|question"),
        ("same|a|b", "expected pairs of the kind 'same' and of others"),
    ],
)
def test_a_file_that_has_no_pairs_is_refused(tmp_path: Path, text: str, error: str) -> None:
    file = tmp_path / "pairs.txt"
    file.write_text(text)
    with pytest.raises(UsageError) as raised:
        read_pairs(file)
    assert error in str(raised.value)
