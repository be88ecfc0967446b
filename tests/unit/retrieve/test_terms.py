"""Terms: what counts as the same word."""

from collections import Counter

from services.retrieve.domain.terms import MOST, add, count, from_counter, terms


def test_words_are_stemmed_and_case_does_not_matter() -> None:
    assert terms("Covering covers COVERED") == terms("cover cover cover")


def test_stop_words_are_left_out() -> None:
    assert terms("What is the fee") == terms("what fee")


def test_identifiers_keep_their_parts_in_order() -> None:
    assert terms("HMO-483") == [*terms("hmo"), *terms("483")]


def test_a_text_without_words_has_no_terms() -> None:
    counted = count("— …")
    assert (len(counted.ids), len(counted.counts), counted.length) == (0, 0, 0)


def test_counting_keeps_repetitions_and_ascending_ids() -> None:
    counted = count("fee fees deadline fee")
    (fee,), (deadline,) = terms("fee"), terms("deadline")
    assert dict(zip(counted.ids.tolist(), counted.counts.tolist(), strict=True)) == {fee: 3, deadline: 1}
    assert counted.ids.tolist() == sorted(counted.ids.tolist())
    assert counted.length == 4


def test_adding_texts_is_counting_them_together() -> None:
    parts, whole = add([count("one fee"), count("fee two fee")]), count("one fee fee two fee")
    assert parts.ids.tolist() == whole.ids.tolist()
    assert parts.counts.tolist() == whole.counts.tolist()
    assert parts.length == whole.length


def test_counts_stay_at_what_sixteen_bits_hold_and_the_length_does_not() -> None:
    counted = from_counter(Counter({7: MOST + 5}))
    assert counted.counts.tolist() == [MOST]
    assert counted.length == MOST + 5
