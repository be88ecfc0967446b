"""The encoder: what a text's vectors may depend on, and what they may not.

Its activations are rounded to eight bits by their range in the whole batch, so a text's vector differs a little with
the texts beside it.
"""

import numpy as np
import pytest

from shared.encoder import DIMENSIONS, MAX_TOKENS, Encoder

TEXTS = ["Physiotherapy is covered.", "The premium rises in July.", "x", "A visit costs 20 dollars. " * 12]
LONG = "The tenant pays the rent on the first day of each month. " * 40
TAIL = "A dolphin swims in the ocean."
ALIKE = 0.97


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder()


def test_vectors_have_unit_length_and_their_place(encoder: Encoder) -> None:
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), DIMENSIONS)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert float(encoder.encode([text])[0] @ vector) > ALIKE


def test_nothing_in_nothing_out(encoder: Encoder) -> None:
    assert encoder.encode([]).shape == (0, DIMENSIONS)
    assert encoder.encode_passages([]) == []
    assert np.linalg.norm(encoder.encode([""])[0]) == pytest.approx(1, abs=1e-5)
    assert encoder.encode_query("").tokens.shape == (0, DIMENSIONS)


def test_likeness_is_of_meaning(encoder: Encoder) -> None:
    question = encoder.encode_query("How much is a doctor's appointment?").vector
    scores = encoder.encode(["A visit to a physician costs $20.", "Parking is behind the building."]) @ question
    assert scores[0] > scores[1] + 0.2


def test_a_query_has_a_vector_for_each_token(encoder: Encoder) -> None:
    query = encoder.encode_query("Does it cover massage?")
    assert query.tokens.shape == (5, DIMENSIONS)
    assert np.linalg.norm(query.tokens, axis=1) == pytest.approx(1, abs=1e-5)
    assert float(encoder.encode(["Does it cover massage?"])[0] @ query.vector) > ALIKE


def test_many_texts_with_tokens_are_the_same_as_one_by_one(encoder: Encoder) -> None:
    for text, found in zip(TEXTS, encoder.encode_tokens(TEXTS), strict=True):
        alone = encoder.encode_query(text)
        assert found.tokens.shape == alone.tokens.shape
        assert float(found.vector @ alone.vector) > ALIKE


def test_a_very_long_query_is_cut(encoder: Encoder) -> None:
    assert encoder.encode_query(LONG * 50).tokens.shape == (MAX_TOKENS - 2, DIMENSIONS)


def test_a_passage_is_the_mean_of_its_tokens_whatever_its_pieces(encoder: Encoder) -> None:
    whole = encoder.encode([f"{TEXTS[0]} {TEXTS[1]}"])[0]
    (one,), (two,) = encoder.encode_passages([[f"{TEXTS[0]} {TEXTS[1]}"]]), encoder.encode_passages([TEXTS[:2]])
    assert one.segments.shape == (1, DIMENSIONS)
    assert two.segments.shape == (2, DIMENSIONS)
    assert min(float(one.vector @ whole), float(two.vector @ whole)) > ALIKE


def test_segments_are_nearest_to_what_they_say(encoder: Encoder) -> None:
    (passage,) = encoder.encode_passages([[TEXTS[0], TEXTS[1], TAIL]])
    alone = encoder.encode([TEXTS[0], TEXTS[1], TAIL])
    assert (passage.segments @ alone.T).argmax(axis=1).tolist() == [0, 1, 2]


def test_the_end_of_a_long_passage_counts(encoder: Encoder) -> None:
    """The encoder reads 256 tokens at once; a passage is read in windows."""
    (without,), (with_tail,) = encoder.encode_passages([[LONG]]), encoder.encode_passages([[LONG, TAIL * 20]])
    dolphin = encoder.encode_query("dolphin in the ocean").vector
    assert float(with_tail.vector @ dolphin) > float(without.vector @ dolphin) + 0.1
    assert float(with_tail.segments[1] @ dolphin) > 0.5
