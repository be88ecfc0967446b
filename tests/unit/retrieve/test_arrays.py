"""Blobs of terms: what is picked is what was stored."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.retrieve.adapters.arrays import COUNTS, TERMS, blob, pick
from services.retrieve.domain.terms import from_counter

TERM = st.integers(0, 2**32 - 1)
ROW = st.dictionaries(st.one_of(TERM, st.sampled_from([1, 65537, 131073])), st.integers(1, 9), max_size=6)


@given(st.lists(ROW, max_size=5), st.sets(st.one_of(TERM, st.sampled_from([1, 65537, 2])), max_size=5))
def test_pick_finds_the_counts_of_wanted_terms(rows: list[dict[int, int]], wanted: set[int]) -> None:
    """65537 and 131073 end in the same sixteen bits as 1."""
    counted = [from_counter(Counter(row)) for row in rows]
    asked = np.array(sorted(wanted | set().union(*rows) if len(wanted) % 2 else wanted), dtype=np.uint32)
    counts = [blob(c.counts, COUNTS) for c in counted]
    picked, again = pick(asked, [blob(c.ids, TERMS) for c in counted], counts, counts)
    assert picked.tolist() == again.tolist()
    assert picked.tolist() == [[float(row.get(term, 0)) for term in asked.tolist()] for row in rows]
