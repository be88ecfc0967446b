"""What `bench_prefix` measures against: the oracle, round-robin, manuals of a given length."""

from hypothesis import given
from hypothesis import strategies as st

from loadtest.prefix_work import manual, oracle, quantile


def test_the_oracle_finds_all_but_the_first_of_each_tenant_and_the_last_block() -> None:
    prefix = list(range(100))
    prompts = [(tenant, [*prefix, 1000 + n]) for tenant in ("a", "b") for n in range(10)]
    held = 96  # three blocks of 32; the rest of the prefix shares a block with the question
    assert oracle(prompts, 32) == 2 * 9 * held / (20 * 101)


def test_the_oracle_computes_the_last_token_of_a_prompt_it_knows() -> None:
    assert oracle([("a", list(range(64))), ("a", list(range(64)))], 32) == 32 / 128


def test_the_oracle_never_finds_a_block_after_one_that_differs() -> None:
    assert oracle([("a", [1] * 32 + [2] * 32 + [3]), ("a", [9] * 32 + [2] * 32 + [3])], 32) == 0


@given(st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.integers(0, 3), min_size=1, max_size=60)), min_size=1))
def test_the_oracle_is_a_share(prompts: list[tuple[str, list[int]]]) -> None:
    assert 0 <= oracle(prompts, 4) < 1


def test_a_manual_has_about_so_many_tokens_and_is_the_same_every_time() -> None:
    def count(text: str) -> int:
        return len(text.split())

    assert 1000 <= count(manual(1, 1000, count)) < 1100
    assert manual(1, 300, count) == manual(1, 300, count) != manual(2, 300, count)


def test_quantiles() -> None:
    assert quantile([3.0], 50) == 3.0
    assert quantile([1.0, 2.0, 3.0], 50) == 2.0
