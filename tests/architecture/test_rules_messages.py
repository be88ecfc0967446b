"""Every subject, stream and step is owned, registered and shown."""

import inspect
import re
from typing import get_args

import pytest
from repository import modules, service_folder

from contracts import subjects
from contracts.messages import (
    CONTRACTS,
    EXAMPLES,
    HEADERS,
    MESSAGES,
    MORE_SUBJECTS,
    STEP_TYPES,
    STEPS,
    Contract,
    Owner,
    covers,
    stream_of,
)
from contracts.steps import AnyStep, Generate, Step
from contracts.subjects import BUCKETS, STREAMS, Stream
from shared.settings import SERVICES

ADDRESSES = [c.subject for c in MESSAGES if c.subject] + list(MORE_SUBJECTS)
NOT_PUBLISHED_TO = {"work_filter", "consumer_of", "job_group"}
"""Functions of `subjects` that give no subject to publish to."""


def matches(address: str, subject: str) -> bool:
    pattern = "".join("[^.]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{\w+\})", address))
    return re.fullmatch(pattern, subject) is not None


def sample(function: object) -> str:
    """A subject as one of the functions of `subjects` makes it."""
    assert inspect.isfunction(function)
    values: dict[str, object] = {"shard": 3, "index": 3, "n": 3, "lane": "batch", "step": Generate(model="small")}
    given: str = function(*(values.get(name, "x") for name in inspect.signature(function).parameters))
    return given


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, function in inspect.getmembers(subjects, inspect.isfunction)
        if function.__module__ == subjects.__name__ and name not in NOT_PUBLISHED_TO
    ],
)
def test_every_subject_carries_a_registered_message(name: str) -> None:
    subject = sample(getattr(subjects, name))
    assert any(matches(address, subject) for address in ADDRESSES), f"{subject}: add it to contracts/messages.py"


@pytest.mark.parametrize("stream", STREAMS, ids=lambda s: s.name)
def test_every_stream_has_an_owner_and_a_message(stream: Stream) -> None:
    assert stream.owner in get_args(Owner)
    assert any(stream_of(address) == stream for address in ADDRESSES)


def test_every_key_value_bucket_has_a_message() -> None:
    wanted = {bucket.name for bucket in BUCKETS if bucket.kind == "kv"}
    assert {c.bucket.name for c in MESSAGES if c.bucket} == wanted


def test_every_header_of_ours_is_explained() -> None:
    ours = {value for value in vars(subjects).values() if isinstance(value, str) and value.startswith("Penstock-")}
    assert ours <= HEADERS.keys()
    assert {header for contract in MESSAGES for header in contract.headers} <= HEADERS.keys()


def test_no_two_streams_store_the_same_subject() -> None:
    for address in ADDRESSES:
        assert len([s for s in STREAMS if any(covers(p, address) for p in s.subjects)]) <= 1, address


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.name)
def test_every_message_has_an_owner_an_example_and_a_docstring(contract: Contract) -> None:
    assert contract.owner in get_args(Owner)
    assert (EXAMPLES / contract.file).is_file()
    assert (contract.struct.__doc__ or "").strip()
    assert contract.subject or contract.inside


def test_names_of_messages_are_used_once() -> None:
    names = [contract.name for contract in CONTRACTS]
    assert len(names) == len(set(names))


def test_every_step_class_is_on_the_wire() -> None:
    assert set(STEP_TYPES) == set(get_args(AnyStep)) == set(Step.__subclasses__())
    assert {contract.struct for contract in STEPS} == set(STEP_TYPES)


@pytest.mark.parametrize("step", STEP_TYPES, ids=lambda s: s.__name__)
def test_every_step_is_taken_by_its_service(step: type[Step]) -> None:
    assert step.service in SERVICES
    folder = service_folder(step.service).name
    taken = re.compile(rf"\.on\(\s*{step.__name__}\b|case {step.__name__}\(")
    places = (f"services/{folder}/", "shared/worker.py")
    sources = [source for name, _, source in modules("services", "shared") if name.startswith(places)]
    assert any(taken.search(source) for source in sources), f"services/{folder} has no `runtime.on({step.__name__}, …)`"
