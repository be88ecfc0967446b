"""The generated files: in step with the Structs, valid AsyncAPI, and no breaking change slips through."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from contracts.item import Item
from contracts.messages import ASYNCAPI, CONTRACTS, SCHEMAS, STEPS, Contract
from contracts.task import Task
from shared.schemas import __main__ as command
from shared.schemas.compatibility import breaking
from shared.schemas.json_schema import schema_of

Schema = dict[str, Any]
ASYNCAPI_SCHEMA = Path(__file__).parent / "asyncapi-3.0.0.schema.json"


def contract_of(name: str) -> Contract:
    return next(c for c in CONTRACTS if c.name == name)


@pytest.fixture
def asyncapi() -> Schema:
    loaded: Schema = yaml.safe_load(ASYNCAPI.read_text(encoding="utf-8"))
    return loaded


@pytest.fixture
def job() -> Schema:
    return schema_of(contract_of("Job"))


def test_stored_files_are_in_step() -> None:
    assert command.main(["--check"]) == 0


def test_no_schema_without_a_contract() -> None:
    assert {path.name.split(".")[0] for path in SCHEMAS.iterdir()} == {c.name for c in CONTRACTS}


def test_the_document_is_valid_asyncapi(asyncapi: Schema) -> None:
    validator = Draft7Validator(json.loads(ASYNCAPI_SCHEMA.read_bytes()))
    assert [error.message[:300] for error in validator.iter_errors(asyncapi)] == []
    asyncapi["channels"]["job"]["adress"] = "jobs"
    assert not validator.is_valid(asyncapi)


def test_every_reference_in_the_document_leads_somewhere(asyncapi: Schema) -> None:
    for reference in references(asyncapi):
        file, _, pointer = reference.partition("#")
        node: Any = json.loads((ASYNCAPI.parent / file).read_bytes()) if file else asyncapi
        for part in pointer.strip("/").split("/"):
            node = node[part] if part else node


def test_every_message_and_step_is_in_the_document(asyncapi: Schema) -> None:
    parts = asyncapi["components"]
    assert parts["messages"].keys() | parts["schemas"].keys() == {c.name for c in CONTRACTS}
    assert parts["schemas"].keys() == {c.name for c in STEPS}


def test_every_subject_is_a_channel_that_somebody_uses(asyncapi: Schema) -> None:
    addresses = {channel["address"] for channel in asyncapi["channels"].values()}
    assert addresses >= {c.subject for c in CONTRACTS if c.subject}
    used = {operation["channel"]["$ref"].rsplit("/", 1)[-1] for operation in asyncapi["operations"].values()}
    more = {"asksJob", "generateTask", "generateReplicaTask", "schedulesTask", "alarmsTask"}  # further subjects
    assert asyncapi["channels"].keys() - used == {"inbox", *more}


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        here = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return here + [r for value in node.values() for r in references(value)]
    return [r for value in node for r in references(value)] if isinstance(node, list) else []


def test_a_schema_stands_alone() -> None:
    for contract in CONTRACTS:
        schema = schema_of(contract)
        for reference in references(schema):
            assert reference.removeprefix("#/$defs/") in schema["$defs"], f"{contract.file}: {reference}"


def test_comments_become_descriptions(job: Schema) -> None:
    assert job["properties"]["deadline_s"]["description"] == "seconds from submission for the whole job"


def test_items_of_a_job_are_described_as_inputs(job: Schema) -> None:
    assert job["properties"]["items"]["items"] == {"$ref": "#/$defs/Input"}
    assert "question" in job["$defs"]["Input"]["properties"]


# ── breaking changes ──


def test_equal_schemas_do_not_break() -> None:
    for contract in CONTRACTS:
        assert breaking(schema_of(contract), schema_of(contract)) == []


def test_harmless_changes(job: Schema) -> None:
    new = deepcopy(job)
    new["properties"]["priority"] = {"type": "integer", "default": 0}
    new["properties"]["job"]["description"] = "said better"
    new["properties"]["job"].pop("type")
    new["properties"]["job"]["anyOf"] = [{"type": "string"}, {"type": "null"}]
    new["$defs"]["Options"]["properties"]["when_refused"]["enum"].append("ask")
    assert breaking(job, new) == []


def test_a_removed_field_breaks(job: Schema) -> None:
    new = deepcopy(job)
    del new["properties"]["lane"]
    assert breaking(job, new) == ["Job.lane: was removed"]


def test_a_changed_type_breaks(job: Schema) -> None:
    new = deepcopy(job)
    new["properties"]["job"]["type"] = "integer"
    assert breaking(job, new) == ["Job.job: type changed from string to integer"]


def test_a_new_required_field_breaks(job: Schema) -> None:
    new = deepcopy(job)
    new["properties"]["cost_centre"] = {"type": "string"}
    new["required"] = ["cost_centre"]
    assert breaking(job, new) == ["Job.cost_centre: is now required"]


def test_a_changed_default_breaks(job: Schema) -> None:
    new = deepcopy(job)
    new["$defs"]["Options"]["properties"]["passages"]["default"] = 8
    assert breaking(job, new) == ["Options.passages: default changed from 5 to 8"]


def test_a_changed_element_type_breaks(job: Schema) -> None:
    new = deepcopy(job)
    new["$defs"]["Input"]["properties"]["variables"]["additionalProperties"] = {"type": "number"}
    assert breaking(job, new) == ["Input.variables[]: type changed from string to number"]


def test_a_value_that_is_no_longer_taken_breaks(job: Schema) -> None:
    new = deepcopy(job)
    new["$defs"]["Options"]["properties"]["when_refused"]["enum"].remove("fail")
    assert breaking(job, new) == ["Options.when_refused: no longer takes fail"]


def test_unknown_fields_refused_breaks() -> None:
    old = schema_of(contract_of("Cancel"))
    assert breaking(old, {**old, "additionalProperties": False}) == ["Cancel: unknown fields are now refused"]


def test_a_step_that_is_no_longer_taken_breaks() -> None:
    old = schema_of(contract_of("Task"))
    new = deepcopy(old)
    steps = new["properties"]["steps"]["items"]["anyOf"]
    steps.remove({"$ref": "#/$defs/Rerank"})
    assert breaking(old, new) == ["Task.steps[]: no longer takes Rerank"]


def test_a_change_deep_inside_is_reported_once() -> None:
    """Parked reaches Item on two ways, and a Scatter holds steps that hold Scatters: no repeats, no endless loop."""
    old = schema_of(contract_of("Parked"))
    new = deepcopy(old)
    del new["$defs"][Item.__name__]["properties"]["query"]
    assert breaking(old, new) == ["Item.query: was removed"]


# ── the command ──


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The generated files in a folder of the test's own."""
    folder = tmp_path / "contracts" / "schemas"
    folder.mkdir(parents=True)
    monkeypatch.setattr(command, "SCHEMAS", folder)
    monkeypatch.setattr(command, "ASYNCAPI", folder.parent / "asyncapi.yaml")
    assert command.main([]) == 0
    return folder


def test_check_names_the_file_out_of_step(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--check"]) == 0
    path = stored / "Cancel.v1.json"
    path.write_text(path.read_text().replace('"reason"', '"reason" ', 1))
    (stored.parent / "asyncapi.yaml").unlink()
    assert command.main(["--check"]) == 1
    complaint = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in complaint] == ["contracts/schemas/Cancel.v1.json", "contracts/asyncapi.yaml"]


def test_a_breaking_change_is_refused_until_the_version_is_raised(
    stored: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = stored / "Task.v1.json"
    published = json.loads(path.read_bytes())
    published["properties"]["colour"] = {"type": "string", "default": ""}
    path.write_text(json.dumps(published))
    for arguments in ([], ["--check"]):
        assert command.main(arguments) == 1
        assert "Task.v1.json: Task.colour: was removed; raise the version of Task" in capsys.readouterr().err
    assert json.loads(path.read_bytes()) == published

    raised = [c if c.struct is not Task else _raised(c) for c in CONTRACTS]
    monkeypatch.setattr(command, "CONTRACTS", raised)
    assert command.main([]) == 0
    assert (stored / "Task.v2.json").exists()
    assert json.loads(path.read_bytes()) == published


def _raised(contract: Contract) -> Contract:
    return replace(contract, version=2)
