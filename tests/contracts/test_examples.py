"""The stored examples: each decodes to its Struct, says the same again, and fits its JSON Schema."""

import json

import msgspec
import pytest
from jsonschema import Draft202012Validator

from contracts.job import Job
from contracts.messages import CONTRACTS, EXAMPLES, SCHEMAS, STEPS, Contract
from contracts.steps import AnyStep

EACH = pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.file)
REFUSE_UNKNOWN = {"Job"}


def stored(contract: Contract) -> bytes:
    return (EXAMPLES / contract.file).read_bytes()


@EACH
def test_decodes_and_reencodes_equal(contract: Contract) -> None:
    message = msgspec.json.decode(stored(contract), type=contract.struct)
    assert json.loads(msgspec.json.encode(message)) == json.loads(stored(contract))


@EACH
def test_survives_its_encoding(contract: Contract) -> None:
    message = msgspec.json.decode(stored(contract), type=contract.struct)
    if contract.encoding == "json":
        assert msgspec.json.decode(msgspec.json.encode(message), type=contract.struct) == message
    else:
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=contract.struct) == message


@EACH
def test_fits_its_schema(contract: Contract) -> None:
    schema = json.loads((SCHEMAS / contract.file).read_bytes())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(json.loads(stored(contract)))


@EACH
def test_schema_refuses_what_the_struct_refuses(contract: Contract) -> None:
    """A wrong type in the first field: the Struct and the schema agree that it is wrong."""
    field = msgspec.structs.fields(contract.struct)[0].encode_name if contract not in STEPS else "do"
    wrong = {**json.loads(stored(contract)), field: {"not": ["this"]}}
    schema = json.loads((SCHEMAS / contract.file).read_bytes())
    assert not Draft202012Validator(schema).is_valid(wrong)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps(wrong), type=contract.struct)


@EACH
def test_unknown_fields(contract: Contract) -> None:
    newer = json.dumps({**json.loads(stored(contract)), "from_the_future": [1, 2]})
    if contract.name in REFUSE_UNKNOWN:
        with pytest.raises(msgspec.ValidationError, match="from_the_future"):
            msgspec.json.decode(newer, type=contract.struct)
    else:
        known = msgspec.json.decode(stored(contract), type=contract.struct)
        assert msgspec.json.decode(newer, type=contract.struct) == known


def test_options_refuse_unknown_fields_and_name_them() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"temprature.*\$\.options"):
        msgspec.json.decode(b'{"options":{"temprature":0.2}}', type=Job)


@pytest.mark.parametrize("contract", STEPS, ids=lambda c: c.name)
def test_a_step_is_told_by_its_tag(contract: Contract) -> None:
    step = msgspec.json.decode(stored(contract), type=AnyStep)
    assert type(step) is contract.struct


@EACH
def test_the_version_on_the_wire_is_the_registered_one(contract: Contract) -> None:
    for field in msgspec.structs.fields(contract.struct):
        if field.name == "v":
            assert field.default == contract.version


def test_examples_show_what_is_optional() -> None:
    """An example that leaves all optional fields out would show nobody anything: each field is shown somewhere."""
    unseen = []
    for contract in CONTRACTS:
        shown = json.loads(stored(contract)).keys()
        optional = {f.encode_name for f in msgspec.structs.fields(contract.struct)} - {"v"}
        if contract.name not in {"Job", "ItemResult", "JobReport", "Task", "Arrival", "Parked", "Scatter", "Judge"}:
            unseen += [f"{contract.name}.{name}" for name in optional - shown]
    assert unseen == []


def test_no_example_without_a_contract() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} >= {c.file for c in CONTRACTS}
    assert {path.name.split(".")[0] for path in EXAMPLES.iterdir()} == {c.name for c in CONTRACTS}
