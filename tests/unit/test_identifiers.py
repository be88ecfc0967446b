"""Codes in questions and texts."""

import pytest

from services.generate_gpu.domain.identifiers import identifiers, mentions, without


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("Does plan HMO-483 cover it?", {"hmo483"}),
        ("is hmo-483 cheaper than PPO 210", {"hmo483", "ppo210"}),
        ("sku PX-101, SKU1002 and KL-7", {"px101", "sku1002", "kl7"}),
        ("order 4821377", {"4821377"}),
        ("the document hmo-483-benefits-2025", {"hmo483"}),
        ("pre-1990s in the 1990s, budget-2025, NFL 2015, Super Bowl 50, a 24-hour line", set()),
    ],
)
def test_finds_codes_and_leaves_years_alone(text: str, codes: set[str]) -> None:
    assert identifiers(text) == codes


def test_a_code_may_be_spelt_another_way() -> None:
    assert mentions("iso27001", "certified to ISO/IEC 27001:2022", frozenset())
    assert not mentions("iso27001", "certified to ISO 9001", frozenset())


def test_leaves_out_only_the_codes_that_are_named() -> None:
    assert without("price of PX-101 under HMO-483", frozenset({"hmo483"})) == "price of PX-101 under "
