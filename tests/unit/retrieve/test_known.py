"""What is known of documents: read once, bounded, never wrong."""

from collections.abc import Sequence

import numpy as np

from services.retrieve.adapters.known import Known, KnownDocuments

TERMS = 1000  # bytes


def known(number: int) -> Known:
    return Known(bytes([number]) * TERMS, b"", b"", np.zeros(0, np.float32))


class Reader:
    def __init__(self) -> None:
        self.read: list[int] = []

    def __call__(self, numbers: Sequence[int]) -> dict[int, Known]:
        self.read += numbers
        return {number: known(number) for number in numbers}


def test_a_document_is_read_once() -> None:
    documents, reader = KnownDocuments(), Reader()
    assert [found.terms[0] for found in documents.get([3, 1], reader)] == [3, 1]
    assert [found.terms[0] for found in documents.get([1, 2, 3], reader)] == [1, 2, 3]
    assert reader.read == [3, 1, 2]


def test_those_not_asked_for_lately_make_room() -> None:
    documents, reader = KnownDocuments(room_bytes=2 * TERMS), Reader()
    for number in (1, 2, 1, 3):
        documents.get([number], reader)
    assert reader.read == [1, 2, 3]
    documents.get([1, 2], reader)
    assert reader.read == [1, 2, 3, 2]


def test_more_than_there_is_room_for_is_given_all_the_same() -> None:
    documents, reader = KnownDocuments(room_bytes=TERMS - 1), Reader()
    assert [found.terms[0] for found in documents.get([1, 2], reader)] == [1, 2]
    documents.get([1], reader)
    assert reader.read == [1, 2, 1]
