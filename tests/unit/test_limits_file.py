"""limits.yaml: what it may say, whose allowances a call counts against, and how refusals read."""

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from contracts.item import Message, Tool
from services.generate_gpu.domain.completion import CompletionRequest
from services.generate_gpu.domain.limits import Ask, Over, Shard, most, over
from shared.limits import Allowance, Limits, Scope, load_limits
from shared.models import Model, Price
from shared.settings import SettingsError

DOCS = Path(__file__).parents[2] / "docs" / "limits.md"
NOV_30 = 1_796_040_000.0  # 2026-11-30 12:00 UTC


def write(folder: Path, text: str) -> Path:
    file = folder / "limits.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def allowed(limits: Limits, tenant: str, user: str = "", model: str = "m") -> dict[str, dict[str, float]]:
    return {
        f"{scope.kind} {scope.name}": scope.allowance.model_dump(exclude_none=True, exclude={"users"})
        for scope in (*limits.scopes(tenant, user), *limits.of_model(model))
    }


def test_without_a_file_nothing_is_limited() -> None:
    limits = load_limits(None, [])
    assert limits.none
    assert [*limits.scopes("acme", "ann"), *limits.of_model("large")] == []


def test_the_example_of_the_documentation_is_read_as_it_says(tmp_path: Path) -> None:
    found = re.search(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    limits = load_limits(write(tmp_path, found[1]), ["extractive"])
    assert allowed(limits, "new", "ann") == {"tenant new": {"rpm": 600, "tpm": 200000}, "user new/ann": {"rpm": 60}}
    assert allowed(limits, "new") == {"tenant new": {"rpm": 600, "tpm": 200000}, "user new/": {"rpm": 60}}
    acme = {"rpm": 1200, "tpm": 200000, "rpd": 100000, "usd_month": 500}
    assert allowed(limits, "acme", "ann") == {"tenant acme": acme, "user acme/ann": {"rpm": 60, "usd_day": 2}}
    assert allowed(limits, "acme", "nightly") == {"tenant acme": acme, "user acme/nightly": {"rpm": 600}}
    assert allowed(limits, "new", "ann", "extractive")["model extractive"] == {"rpm": 6000}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tenant: {acme: {rpm: 1}}", "tenant: no such field; known are tenants, models, batch, reserve_s"),
        ("tenants: {acme: {rpn: 3}}", "tenants.acme.rpn: no such field; known are rpm, tpm, rpd, usd_day"),
        ("tenants: {acme: {rpm: 0}}", "tenants.acme.rpm: Input should be greater than or equal to 1"),
        ("tenants: {acme: {usd_day: -1}}", "tenants.acme.usd_day: Input should be greater than 0"),
        ('tenants: {"a b": {rpm: 1}}', "tenants.a b: expected a name of letters, digits, - and _, or * for all others"),
        ("tenants: {a: {users: {b: {rpm: x}}}}", "tenants.a.users.b.rpm: Input should be a valid integer"),
        ("models: {x: {rpm: 1}}", "models.x: no such model; known are large, noop"),
        ("models: {large: {usd_day: 1}}", "models.large.usd_day: no such field; known are rpm, tpm, rpd"),
        ("batch: {share: 2}", "batch.share: Input should be less than or equal to 1"),
        ("- 1", "expected tenants, models, batch, reserve_s"),
        ("tenants: [", "not YAML"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(SettingsError, match=re.escape(f"{file}: {expected}")):
        load_limits(file, ["large", "noop"])


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_limits(tmp_path / "none.yaml", [])


def test_the_most_that_a_call_may_use_counts_every_sample() -> None:
    model = Model(name="m", engine="noop", price=Price(prompt=1.0, cached=0.1, completion=10.0))
    one = CompletionRequest([Message("user", "how long must it be")], max_tokens=100)
    tokens, nano = most(one, model)
    three, _ = most(CompletionRequest([Message("user", "how long must it be")], max_tokens=100, n=3), model)
    assert three - tokens == 200
    assert nano == (tokens - 100) * 1_000 + 100 * 10_000


def test_what_is_sent_beside_the_messages_counts_too() -> None:
    plain = CompletionRequest([Message("user", "how long must it be")], max_tokens=100)
    model = Model(name="m", engine="openai", base_url="http://here", id="m")
    tools = replace(plain, tools=[Tool("visits", "Visits that are left. " * 100)])
    schema = replace(plain, schema={"description": "Visits that are left. " * 100})
    for request in (tools, schema):
        more = most(request, model)[0] - most(plain, model)[0]
        assert 500 < more < 1000
    for other in ({"structured": "json_object"}, {"engine": "vllm"}):
        unsent = Model.model_validate(model.model_dump() | other)
        assert most(schema, unsent) == most(plain, unsent), "such a model is sent no schema"


def test_a_spent_budget_names_its_month_and_its_reset() -> None:
    scope = Scope("user", "acme/ann", Allowance(usd_day=2, usd_month=40))
    shard = Shard("t:0", [scope], batch=False)
    error = over(shard, Ask(0, 10, 20_000_000), Over(0, 0, "usd_month", 39_990_000_000, 0), NOV_30)
    assert str(error) == (
        "the budget of the user 'ann' of 'acme', $40.00 a month, does not bear the call: $39.99 spent, "
        "the call may cost $0.02; it resets at 2026-12-01 00:00 UTC"
    )
    assert error.failure("generate").retry_after_s == 12 * 3600
