"""Segments: the pieces of a passage that get vectors of their own."""

from collections.abc import Sequence

from shared.text import count_tokens, sentences

LEAST_CHARACTERS = 40
PER_WINDOW = 7
"""At most so many segments for each window of text that the encoder sees at once."""
WINDOW_TOKENS = 254


def segments(text: str) -> list[str]:
    """The sentences of a passage, those under 40 characters merged with their neighbour; seven at most for each 254
    tokens, neighbours merged evenly where there are more. Joined with spaces they are the passage."""
    pieces = _merge_short(sentences(text))
    if len(pieces) > PER_WINDOW:
        windows = -(-count_tokens([text])[0] // WINDOW_TOKENS)
        pieces = _merge_evenly(pieces, PER_WINDOW * max(1, windows))
    return pieces or [text.strip() or "-"]


def _merge_short(pieces: Sequence[str]) -> list[str]:
    merged: list[str] = []
    for piece in pieces:
        if merged and len(merged[-1]) < LEAST_CHARACTERS:
            merged[-1] += f" {piece}"
        else:
            merged.append(piece)
    if len(merged) > 1 and len(merged[-1]) < LEAST_CHARACTERS:
        last = merged.pop()
        merged[-1] += f" {last}"
    return merged


def _merge_evenly(pieces: Sequence[str], most: int) -> list[str]:
    """Neighbours joined into at most `most` groups of about the same length."""
    if len(pieces) <= most:
        return list(pieces)
    total = sum(len(piece) for piece in pieces)
    groups: list[list[str]] = [[] for _ in range(most)]
    passed = 0
    for piece in pieces:
        middle = passed + len(piece) / 2
        groups[min(most - 1, int(middle * most / total))].append(piece)
        passed += len(piece)
    return [" ".join(group) for group in groups if group]
