"""The catalogue: what models.yaml may say, and what usage costs."""

from pathlib import Path

import pytest

from contracts.item import Usage
from shared.errors import Rejected
from shared.models import Model, Price, load_catalogue
from shared.settings import SettingsError

REMOTE = """
models:
  - {name: extractive, engine: extractive, default: true}
  - name: large
    engine: openai
    base_url: https://models.example.com/v1/
    id: example-large-2
    api_key_env: EXAMPLE_API_KEY
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "models.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_built_in_catalogue_needs_no_key_and_no_address() -> None:
    catalogue = load_catalogue()
    assert catalogue.default.name == "extractive"
    assert catalogue.get("noop").engine == "noop"
    assert not any(model.api_key_env or model.base_url for model in catalogue.models)


def test_an_empty_name_means_the_default_and_an_unknown_one_lists_the_known() -> None:
    catalogue = load_catalogue()
    assert catalogue.get("") is catalogue.default
    with pytest.raises(Rejected, match="no such model 'gpt'; known are extractive, noop"):
        catalogue.get("gpt")


def test_a_file_of_ones_own_replaces_the_built_in_one(tmp_path: Path) -> None:
    catalogue = load_catalogue(write(tmp_path, REMOTE))
    assert [model.name for model in catalogue.models] == ["extractive", "large"]
    assert catalogue.get("large").base_url == "https://models.example.com/v1"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("id: example-large-2", "idd: x"), "model 'large': idd: no such field; known are name, engine"),
        (
            ("engine: openai", "engine: magic"),
            "model 'large': engine: Input should be 'extractive', 'openai', 'vllm', 'canned' or 'noop'",
        ),
        (("name: large", "name: my large"), "model 'my large': name: expected 1 to 64 letters"),
        (("    id: example-large-2\n", ""), "model 'large': the engine openai needs base_url and id"),
        (("https://models", "https://me:secret@models"), "model 'large': base_url: expected http"),
        (("EXAMPLE_API_KEY", "sk-123-456"), "model 'large': api_key_env: expected the name of an environment variable"),
        (("name: large", "name: extractive"), "model 'extractive' stands twice"),
        ((", default: true", ""), "expected one model with `default: true`, got none"),
        (("id: example-large-2", "price: {promt: 1}"), "model 'large': price.promt: no such field; known are prompt"),
        (("id: example-large-2", "context: many"), "model 'large': context: "),
        (("models:", "model:"), "models: Field required"),
        (("{name: extractive", "[{name: extractive"), "not YAML"),
    ],
)
def test_a_wrong_file_gets_an_error_that_names_file_model_and_field(
    tmp_path: Path, change: tuple[str, str], expected: str
) -> None:
    file = write(tmp_path, REMOTE.replace(*change))
    with pytest.raises(SettingsError) as caught:
        load_catalogue(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert expected in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent.yaml: cannot be read"):
        load_catalogue(tmp_path / "absent.yaml")


def test_cost_counts_cached_tokens_at_their_own_price() -> None:
    usage = Usage(prompt_tokens=1_000_000, cached_tokens=400_000, completion_tokens=100_000)
    price = Price(prompt=2.0, cached=0.5, completion=10.0)
    assert Model(name="m", engine="noop", price=price).cost(usage) == pytest.approx(0.6 * 2 + 0.4 * 0.5 + 0.1 * 10)
    plain = Price(prompt=2.0, completion=10.0)
    assert Model(name="m", engine="noop", price=plain).cost(usage) == pytest.approx(2 + 1)
    assert Model(name="m", engine="noop").cost(usage) == 0


LADDER = """
models:
  - {name: large, engine: openai, base_url: "http://a/v1", id: l, default: true, fallback: [spare, extractive, sorry]}
  - {name: spare, engine: openai, base_url: "http://b/v1", id: s, fallback: [large]}
  - {name: extractive, engine: extractive}
  - {name: sorry, engine: canned, text: Not now.}
  - {name: noop, engine: noop}
"""


def test_a_ladder_is_a_model_and_those_that_it_names(tmp_path: Path) -> None:
    catalogue = load_catalogue(write(tmp_path, LADDER))
    assert [model.name for model in catalogue.ladder("")] == ["large", "spare", "extractive", "sorry"]
    assert [model.name for model in catalogue.ladder("spare")] == ["spare", "large"], "what these name is not followed"
    assert [model.name for model in catalogue.ladder("extractive")] == ["extractive"]
    large = catalogue.default
    assert (large.breaker.failures, large.breaker.slow_s) == (3, 4.0)
    assert (large.patience.interactive, large.patience.batch) == (0.0, 3600.0)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            ("[spare, extractive", "[spar, extractive"),
            "model 'large': fallback: no such model 'spar'; known are large",
        ),
        (("[spare, extractive", "[large, extractive"), "model 'large': fallback: 'large' stands twice on its ladder"),
        (("[spare, extractive", "[extractive, extractive"), "fallback: 'extractive' stands twice on its ladder"),
        (("extractive, sorry]", "noop]"), "fallback: a model of the engine noop stands on no ladder"),
        (("[spare, extractive", "[extractive, spare"), "fallback: 'spare' writes, so it belongs before 'extractive'"),
        ((", text: Not now.", ""), "model 'sorry': text: the engine canned needs what it answers with"),
        (("engine: extractive}", "engine: extractive, text: x}"), "model 'extractive': text: the engine canned needs"),
        (
            ("id: s,", "id: s, breaker: {slow: 3},"),
            "model 'spare': breaker.slow: no such field; known are failures",
        ),
        (("id: s,", "id: s, breaker: {failures: 0},"), "model 'spare': breaker.failures: Input should be greater"),
        (
            ("id: s,", "id: s, patience: {people: 3},"),
            "model 'spare': patience.people: no such field; known are inter",
        ),
    ],
)
def test_a_ladder_that_cannot_be_is_named_with_its_place(
    tmp_path: Path, change: tuple[str, str], expected: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_catalogue(write(tmp_path, LADDER.replace(*change)))
    assert expected in str(caught.value)
