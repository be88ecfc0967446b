"""The salt of the prefix cache: equal only for equal tenants and policy versions."""

from hypothesis import given
from hypothesis import strategies as st

from services.generate_gpu.domain.salt import salt

pairs = st.tuples(st.text(max_size=20), st.text(max_size=20))


@given(pairs, pairs)
def test_only_equal_tenants_and_versions_share_a_salt(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (salt(*one) == salt(*other)) == (one == other)


def test_names_that_read_the_same_together_are_told_apart() -> None:
    assert salt("ab", "c@1") != salt("a", "bc@1")
