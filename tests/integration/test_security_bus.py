"""A tenant tries to cross into another's, and into the services', by every way that the server offers.

Each refusal stands beside the same thing done rightly, so that a test cannot pass because nothing works.
"""

import asyncio
import base64
import json
import stat
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import AckPolicy, ConsumerConfig
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError
from servers import bus_of_two_tenants

from client.client import Penstock
from client.discovery import connected
from client.errors import Unreachable
from client.stack import StackInfo
from client.stack.config import nats_url, redis_url
from client.stack.processes import of_stack
from client.stack.secrets import Secrets, load, service_user
from contracts.accounts import api
from contracts.subjects import RESULTS
from shared.bus import Bus
from shared.uploads import Uploads

pytestmark = pytest.mark.servers

QUIET_S = 0.4


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackInfo]:
    with bus_of_two_tenants(tmp_path_factory.mktemp("security")) as found:
        yield found


@pytest.fixture(scope="module")
def secrets(stack: StackInfo) -> Secrets:
    return load(Path(stack.data))


@dataclass
class User:
    """A connection, and what the server has refused on it."""

    nc: Client
    refused: list[str] = field(default_factory=list)

    async def asks(self, subject: str, payload: bytes | dict[str, object] = b"", **headers: str) -> dict[str, object]:
        """What a request gets, as JSON; `{"silence": …}` where nobody may or wants to answer."""
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        try:
            reply = await self.nc.request(subject, data, timeout=QUIET_S, headers=headers or None)
        except (NoRespondersError, NatsTimeout) as error:
            return {"silence": type(error).__name__}
        return json.loads(reply.data) if reply.data[:1] == b"{" else {"headers": dict(reply.headers or {})}


async def open_user(url: str) -> User:
    refused: list[str] = []

    async def remember(error: Exception) -> None:
        refused.append(str(error))

    return User(await nats.connect(url, error_cb=remember), refused)


@pytest.fixture
async def operator(stack: StackInfo) -> AsyncIterator[User]:
    user = await open_user(stack.operator_url)
    yield user
    await user.nc.close()


@pytest.fixture
async def acme(stack: StackInfo, secrets: Secrets) -> AsyncIterator[User]:
    user = await open_user(nats_url(stack.nats_port, "acme", secrets.tenants["acme"]))
    yield user
    await user.nc.close()


@pytest.fixture
async def evil(stack: StackInfo, secrets: Secrets) -> AsyncIterator[User]:
    user = await open_user(nats_url(stack.nats_port, "evil", secrets.tenants["evil"]))
    yield user
    await user.nc.close()


async def written(operator: User, subject: str, data: bytes = b"{}") -> None:
    """Written by the services, and arrived in the tenant's copy."""
    await Bus.on(operator.nc, accounts=True).publish(subject, data)
    await asyncio.sleep(0.2)


async def test_nobody_comes_in_without_a_password(stack: StackInfo) -> None:
    for url in (f"nats://127.0.0.1:{stack.nats_port}", f"nats://acme:guess@127.0.0.1:{stack.nats_port}"):
        with pytest.raises(Unreachable) as failure:
            async with connected(url):
                pass
        assert "guess" not in str(failure.value)
    async with connected(stack.nats_url) as nc:
        assert nc.is_connected


@pytest.mark.parametrize("kind", ["jobs.{}.rag", "control.{}.cancel.j", "feedback.{}.j"])
async def test_a_tenant_publishes_under_its_own_name_alone(evil: User, operator: User, kind: str) -> None:
    assert "seq" in await evil.asks(kind.format("evil"), {"items": []})
    heard = await operator.nc.subscribe(kind.format("acme"))
    await operator.nc.flush()
    assert "silence" in await evil.asks(kind.format("acme"), {"items": []})
    assert any("permissions violation" in text.lower() for text in evil.refused)
    with pytest.raises(NatsTimeout):
        await heard.next_msg(timeout=QUIET_S)


@pytest.mark.parametrize(
    "subject",
    [
        "work.generate.default.interactive", "results.acme.j.0", "results.evil.j.0", "events.evil.j", "groups.g.0",
        "dead.x", "schedules.g", "alarms.g", "documents.evil.d", "asks.evil.rag", "tokens.acme.j.0", "$KV.parked.x",
        "tenants.acme.API.STREAM.INFO.RESULTS", "copies.acme.RESULTS", "source.API.CONSUMER.RESET.RESULTS.copy-evil",
        "$JS.FC.RESULTS.copy-acme.x", "$JS.ACK.WORK.x.1.1.1.1.0", "$SRV.STATS", "$SYS.REQ.SERVER.PING",
        "$SYS.REQ.ACCOUNT.PING.CONNZ", "$JS.API.STREAM.CREATE.MINE", "$JS.API.STREAM.DELETE.RESULTS",
        "$JS.API.STREAM.PURGE.RESULTS", "$JS.API.STREAM.UPDATE.RESULTS", "$JS.API.STREAM.MSG.DELETE.RESULTS",
        "$JS.API.STREAM.SNAPSHOT.RESULTS", "$JS.API.STREAM.INFO.WORK",
        "$JS.API.CONSUMER.MSG.NEXT.WORK.generate-interactive", "$JS.API.ACCOUNT.PURGE.TENANT_acme",
        "_INBOX.x", "_R_.x", "live.results.acme.j.0", "limits.acme", "feedback.acme.j", "control.acme.cancel.j",
        "reindex.all", "forget.acme", "warm.r", "$KV.replicas.r", "$O.library.C.x", "$SRV.STATS.penstock-route",
        "$JS.API.STREAM.RESTORE.RESULTS", "$JS.API.STREAM.MSG.GET.WORK", "$JS.API.STREAM.LIST",
        "$JS.API.DIRECT.GET.KV_parked", "$JS.API.CONSUMER.CREATE.WORK.mine.work.>",
        "$JS.API.CONSUMER.DURABLE.CREATE.JOBS_acme.mine", "$JS.API.CONSUMER.PAUSE.RESULTS.x",
        "$JS.API.STREAM.LEADER.STEPDOWN.RESULTS",
    ],
)  # fmt: skip
async def test_nothing_else_can_be_published_to(evil: User, operator: User, subject: str) -> None:
    """The operator may (or the server answers it): so the subject is one, and it is the permission that refuses."""
    await evil.nc.publish(subject, b"{}")
    await evil.nc.flush()
    await asyncio.sleep(0.05)
    if subject.startswith("$JS.FC."):  # an ordered consumer must answer flow control; it crosses no border
        heard = await operator.nc.subscribe(subject)
        await operator.nc.flush()
        await evil.nc.publish(subject, b"")
        with pytest.raises(NatsTimeout):
            await heard.next_msg(timeout=QUIET_S)
        return
    assert any(subject.lower() in text.lower() for text in evil.refused), evil.refused
    if not subject.startswith("$JS.API."):  # the operator may delete streams, but shall not here
        await operator.nc.publish(subject, b"{}")
        await operator.nc.flush()
    assert operator.refused == []


async def test_a_tenant_hears_its_own_tokens_alone(acme: User, evil: User, operator: User) -> None:
    mine = await acme.nc.subscribe("tokens.acme.>")
    everything = [
        await evil.nc.subscribe(subject) for subject in (">", "tokens.acme.>", "tokens.>", "results.acme.>", "*.>")
    ]
    across = await evil.nc.subscribe("live.>")
    await acme.nc.flush()
    await evil.nc.flush()
    await operator.nc.publish("tokens.acme.j.0", b"secret")
    await written(operator, "results.acme.heard.0", b"secret")
    assert (await mine.next_msg(timeout=2)).data == b"secret"
    for subscription in (*everything, across):
        with pytest.raises(NatsTimeout):
            await subscription.next_msg(timeout=0.1)
    assert sum("permissions violation" in text.lower() for text in evil.refused) == len(everything)


async def test_results_are_read_by_their_tenant_alone(acme: User, evil: User, operator: User) -> None:
    await written(operator, "results.acme.read.0", b"of acme")
    await written(operator, "results.evil.read.0", b"of evil")
    for user, other, own in ((acme, b"of evil", b"of acme"), (evil, b"of acme", b"of evil")):
        found = []
        subscription = await user.nc.jetstream().subscribe("results.>", stream="RESULTS", ordered_consumer=True)
        while True:
            try:
                found.append((await subscription.next_msg(timeout=QUIET_S)).data)
            except NatsTimeout:
                break
        assert own in found
        assert other not in found


@pytest.mark.parametrize(
    ("call", "request_"),
    [
        ("$JS.API.DIRECT.GET.RESULTS", {"last_by_subj": "results.acme.direct.0"}),
        ("$JS.API.DIRECT.GET.RESULTS.results.acme.direct.0", {}),
        ("$JS.API.STREAM.MSG.GET.RESULTS", {"last_by_subj": "results.acme.direct.0"}),
    ],
)
async def test_a_stored_message_is_given_to_its_tenant_alone(
    acme: User, evil: User, operator: User, call: str, request_: dict[str, object]
) -> None:
    await written(operator, "results.acme.direct.0", b'{"secret": 1}')
    body = json.dumps(request_).encode() if request_ else b""
    assert "secret" in _text(await acme.asks(call, body))
    assert "secret" not in _text(await evil.asks(call, body))


async def test_consumers_of_others_cannot_be_pulled_from_or_named(acme: User, evil: User, operator: User) -> None:
    await written(operator, "results.acme.pull.0", b"{}")
    config = ConsumerConfig(durable_name="private", filter_subject="results.acme.pull.0", ack_policy=AckPolicy.EXPLICIT)
    await acme.nc.jetstream().add_consumer("RESULTS", config)
    assert "private" in _text(await acme.asks("$JS.API.CONSUMER.NAMES.RESULTS"))
    assert "private" not in _text(await evil.asks("$JS.API.CONSUMER.NAMES.RESULTS"))
    answer = await evil.asks("$JS.API.CONSUMER.MSG.NEXT.RESULTS.private", {"batch": 1, "no_wait": True})
    assert "silence" in answer
    await evil.asks("$JS.API.CONSUMER.DELETE.RESULTS.private")
    assert "private" in _text(await acme.asks("$JS.API.CONSUMER.NAMES.RESULTS"))
    listed = await evil.asks("$JS.API.STREAM.INFO.RESULTS", {"subjects_filter": ">"})
    assert "results.acme" not in _text(listed)


@pytest.mark.parametrize(
    "target", ["work.generate.default.interactive", "jobs.acme.rag", "asks.acme.rag", "tokens.acme.j.0"]
)
async def test_a_push_consumer_delivers_nothing_across_the_border(evil: User, operator: User, target: str) -> None:
    """The server does not ask whether a consumer's maker may publish where it delivers to; the border holds it."""
    heard = await operator.nc.subscribe(target)
    ours = await operator.nc.subscribe("jobs.evil.rag")
    await operator.nc.flush()
    await written(operator, f"results.evil.push-{target.replace('.', '-')}.0", b"forged")
    for deliver in (target, "jobs.evil.rag"):
        config = {"deliver_subject": deliver, "ack_policy": "none", "filter_subject": "results.evil.>", "name": "aimed"}
        await evil.asks(
            "$JS.API.CONSUMER.CREATE.RESULTS.aimed.results.evil.>", {"stream_name": "RESULTS", "config": config}
        )
        with pytest.raises(NatsTimeout):
            await heard.next_msg(timeout=QUIET_S)
        await evil.asks("$JS.API.CONSUMER.DELETE.RESULTS.aimed")
    await evil.nc.publish("jobs.evil.rag", b"{}")
    assert (await ours.next_msg(timeout=2)).subject == "jobs.evil.rag"


async def test_a_payload_cannot_be_shot_at_the_servers_own_interface(evil: User, operator: User) -> None:
    """A chunk of an upload is bytes of the tenant's choice, and a push consumer sends them past its permissions."""
    crafted = {"stream_name": "RESULTS", "config": {"deliver_subject": "work.x.interactive", "ack_policy": "none"}}
    heard = await operator.nc.subscribe("work.>")
    await operator.nc.flush()
    before = {c.name for c in await operator.nc.jetstream().consumers_info("RESULTS")}
    await evil.asks("$O.claims.C.crafted", json.dumps(crafted).encode())
    for deliver in (
        "source.API.CONSUMER.CREATE.RESULTS",
        "tenants.acme.API.STREAM.PURGE.RESULTS",
        "$JS.API.CONSUMER.CREATE.WORK",
    ):
        config = {"deliver_subject": deliver, "ack_policy": "none", "filter_subject": "$O.claims.C.crafted"}
        await evil.asks("$JS.API.CONSUMER.CREATE.OBJ_claims", {"stream_name": "OBJ_claims", "config": config})
    with pytest.raises(NatsTimeout):
        await heard.next_msg(timeout=QUIET_S)
    assert {c.name for c in await operator.nc.jetstream().consumers_info("RESULTS")} == before


@pytest.mark.parametrize(
    "config",
    [
        {"subjects": ["results.acme.>", "live.results.acme.>", "tokens.acme.>"]},
        {"subjects": ["mine.>"], "republish": {"src": "mine.>", "dest": "jobs.acme.rag"}},
        {"mirror": {"name": "RESULTS", "external": {"api": "source.API", "deliver": "copies.acme.RESULTS"}}},
        {"sources": [{"name": "RESULTS", "external": {"api": "source.API", "deliver": "mine.deliver"}}]},
        {"sources": [{"name": "RESULTS", "external": {"api": "tenants.acme.API", "deliver": "mine.deliver"}}]},
        {"sources": [{"name": "WORK"}]},
    ],
    ids=["subjects", "republish", "mirror", "sources", "sources of a tenant", "sources of the services"],
)
async def test_a_stream_of_its_own_brings_a_tenant_nothing(
    evil: User, operator: User, config: dict[str, object]
) -> None:
    """It may not make one. Should it get one made all the same, by a push consumer that delivers the request, then it
    holds nothing of others, and what it publishes again stays in the account."""
    assert "silence" in await evil.asks("$JS.API.STREAM.CREATE.MINE", {"name": "MINE", **config})
    await evil.asks("$O.claims.C.stream", json.dumps({"name": "MINE", "storage": "file", **config}).encode())
    for deliver in ("$JS.API.STREAM.CREATE.MINE", "mine.x"):
        consumer = {"deliver_subject": deliver, "ack_policy": "none", "filter_subject": "$O.claims.C.stream"}
        await evil.asks("$JS.API.CONSUMER.CREATE.OBJ_claims", {"stream_name": "OBJ_claims", "config": consumer})
    heard = await operator.nc.subscribe("jobs.acme.rag")
    await operator.nc.flush()
    await operator.nc.publish("tokens.acme.j.0", b"secret")
    await written(operator, "results.acme.own-stream.0", b"secret")
    with pytest.raises(NatsTimeout):
        await heard.next_msg(timeout=QUIET_S)
    theirs = operator.nc.jetstream(prefix=api("evil"))
    if "MINE" in {info.config.name for info in await theirs.streams_info()}:
        state = (await theirs.stream_info("MINE")).state
        stored = [await theirs.get_msg("MINE", n) for n in range(state.first_seq, state.last_seq + 1) if state.messages]
        await theirs.delete_stream("MINE")
        assert not any(b"secret" in (message.data or b"") for message in stored)


@pytest.mark.parametrize(
    "target",
    ["jobs.acme.rag", "work.generate.default.batch", "results.acme.j.0", "control.acme.cancel.j", "$KV.parked.x",
     "tenants.acme.API.STREAM.PURGE.RESULTS", "_INBOX.acme.1"],
)  # fmt: skip
async def test_an_answer_goes_nowhere_but_to_who_asked(acme: User, evil: User, operator: User, target: str) -> None:
    """Who asks names where the answer shall go, and the server or a service publishes it there, with its own rights."""
    seen: list[str] = []

    async def note(message: Msg) -> None:
        seen.append(message.subject)

    async def answer(message: Msg) -> None:
        await operator.nc.publish(message.reply, b"{}")

    await operator.nc.subscribe(target, cb=note)
    await operator.nc.subscribe("ask.evil.answered", cb=answer)
    await acme.nc.subscribe("_INBOX.acme.*", cb=note)
    await operator.nc.flush()
    await acme.nc.flush()
    before = (await operator.nc.jetstream(prefix=api("acme")).stream_info("RESULTS")).state.messages
    for subject in ("ask.evil.answered", "jobs.evil.rag", "control.evil.cancel.j", "$SRV.PING", "$JS.API.INFO"):
        await evil.nc.publish(subject, b"{}", reply=target)
    await evil.nc.flush()
    await asyncio.sleep(QUIET_S)
    assert seen == []
    assert (await operator.nc.jetstream(prefix=api("acme")).stream_info("RESULTS")).state.messages == before
    assert await evil.asks("ask.evil.answered") == {}  # an answer to an inbox comes


async def test_uploads_are_of_their_tenant(stack: StackInfo, secrets: Secrets, operator: User) -> None:
    bus = Bus.on(operator.nc, accounts=True)
    urls = {name: nats_url(stack.nats_port, name, secrets.tenants[name]) for name in ("acme", "evil")}
    async with (
        await Penstock.connect(urls["acme"], "acme") as acme,
        await Penstock.connect(urls["evil"], "evil") as evil,
    ):
        claim = await acme.upload(b"x" * 700_000)
        assert await Uploads(bus, "acme").read(claim) == b"x" * 700_000
        with pytest.raises(Exception, match=r"NotFound|not found"):
            await Uploads(bus, "evil").read(claim)
        with pytest.raises(Exception, match="no such object"):
            await evil.bus.get_claim(claim)
        assert len(await acme.bus.get_claim(claim)) == 700_000


async def test_message_ids_of_two_tenants_do_not_meet(acme: User, evil: User) -> None:
    header = {"Nats-Msg-Id": "the-same"}
    first = await evil.nc.jetstream().publish("jobs.evil.rag", b"{}", headers=header)
    second = await acme.nc.jetstream().publish("jobs.acme.rag", b"{}", headers=header)
    again = await acme.nc.jetstream().publish("jobs.acme.rag", b"{}", headers=header)
    assert (bool(first.duplicate), bool(second.duplicate), bool(again.duplicate)) == (False, False, True)


@pytest.mark.parametrize(
    "headers",
    [
        {"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": "alarms.x"},
        {"Nats-Rollup": "all"},
        {"Nats-TTL": "1s"},
    ],
)
async def test_headers_that_would_work_on_the_stream_are_refused(evil: User, headers: dict[str, str]) -> None:
    for subject in ("jobs.evil.rag", "control.evil.cancel.j"):
        assert "error" in await evil.asks(subject, b"{}", **headers)
        assert "error" not in await evil.asks(subject, b"{}")


async def test_an_ask_is_answered_where_it_was_asked(acme: User, evil: User, operator: User) -> None:
    async def answer(message: Msg) -> None:
        await operator.nc.publish(message.reply, b'{"answer": "of ' + message.subject.encode() + b'"}')

    await operator.nc.subscribe("ask.*.*", cb=answer)
    await operator.nc.flush()
    assert await acme.asks("ask.acme.rag", b"{}") == {"answer": "of ask.acme.rag"}
    assert "silence" in await evil.asks("ask.acme.rag", b"{}")


async def test_what_is_used_of_limits_is_shown_to_its_tenant_alone(acme: User, evil: User, operator: User) -> None:
    async def answer(message: Msg) -> None:
        await operator.nc.publish(message.reply, b'{"tenant": "' + message.subject.encode() + b'"}')

    await operator.nc.subscribe("limits.*", cb=answer)
    await operator.nc.flush()
    assert await acme.asks("limits.acme", b"{}") == {"tenant": "limits.acme"}
    assert "silence" in await evil.asks("limits.acme", b"{}")


async def test_what_was_taken_back_is_gone_from_the_copy_too(acme: User, operator: User) -> None:
    bus = Bus.on(operator.nc, accounts=True)
    await written(operator, "results.acme.back.done", b'{"state": "rejected"}')
    assert await Bus.on(acme.nc).last(RESULTS, "results.acme.back.done") is not None
    await bus.remove(RESULTS, "results.acme.back.done")
    assert await Bus.on(acme.nc).last(RESULTS, "results.acme.back.done") is None


async def test_a_result_of_several_megabytes_reaches_its_tenant_whole(acme: User, operator: User) -> None:
    await written(operator, "results.acme.large.0", b"y" * (6 << 20))
    found = await Bus.on(acme.nc).last(RESULTS, "results.acme.large.0")
    assert found is not None
    assert found.data == b"y" * (6 << 20)


@pytest.mark.parametrize(
    ("service", "may", "may_not"),
    [
        ("judge", "work.route.batch", "tokens.acme.j.0"),
        ("judge", "results.acme.least.0", "documents.acme.d"),
        ("generate", "tokens.acme.j.0", "asks.acme.rag"),
        ("ingest", "documents.acme.d", "tokens.acme.j.0"),
        ("route", "asks.acme.rag", "jobs.acme.rag"),
        ("route", "schedules.g", "$JS.API.STREAM.DELETE.NOTHING"),
        ("route", "tenants.acme.API.STREAM.PURGE.RESULTS", "tenants.acme.API.STREAM.DELETE.NOTHING"),
        ("memory", "events.acme.j", "tenants.acme.API.DIRECT.GET.OBJ_claims"),
        ("rerank", "dead.rerank", "control.acme.cancel.j"),
    ],
)
async def test_a_service_publishes_what_it_needs(
    stack: StackInfo, secrets: Secrets, service: str, may: str, may_not: str
) -> None:
    user = await open_user(nats_url(stack.nats_port, service_user(service), secrets.services[service]))
    for subject in (may, may_not):
        await user.nc.publish(subject, b"{}")
    await user.nc.flush()
    await asyncio.sleep(0.05)
    await user.nc.close()
    assert len(user.refused) == 1
    assert may_not.lower() in user.refused[0].lower()


async def test_redis_wants_a_password_and_services_may_not_empty_it(stack: StackInfo, secrets: Secrets) -> None:
    with pytest.raises(AuthenticationError):
        await Redis.from_url(f"redis://127.0.0.1:{stack.redis_port}/0").ping()
    async with Redis.from_url(redis_url(stack.redis_port, "services", secrets.redis["services"])) as services:
        await services.set("k", "v")
        assert await services.get("k") == b"v"
        for command in (("FLUSHALL",), ("CONFIG", "GET", "*"), ("ACL", "LIST"), ("KEYS", "*")):
            with pytest.raises(NoPermissionError):
                await services.execute_command(*command)  # type: ignore[no-untyped-call]  # redis has no types here
    async with Redis.from_url(stack.redis_url) as redis:
        assert await redis.keys("k") == [b"k"]


def test_secrets_stand_in_private_files_and_nowhere_else(stack: StackInfo, secrets: Secrets) -> None:
    every = [
        *secrets.operators.values(),
        *secrets.services.values(),
        *secrets.tenants.values(),
        *secrets.redis.values(),
    ]
    assert len(every) == len(set(every)) >= 6
    data = Path(stack.data)
    holding = [file for file in data.rglob("*") if file.is_file() and _holds(file, every)]
    assert {"secrets.json", "nats.conf", "stack.json"} <= {file.name for file in holding}
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in holding)
    assert not any("logs" in file.relative_to(data).parts for file in holding)
    processes = of_stack(data)
    assert len(processes) >= 3
    for process in processes:
        said = " ".join([*process.cmdline(), *process.environ().values()])
        assert not any(secret in said for secret in every), process.name()


def _holds(file: Path, secrets: list[str]) -> bool:
    content = file.read_bytes()
    return any(secret.encode() in content for secret in secrets)


def _text(answer: dict[str, object]) -> str:
    """What an answer holds, also where the payload is in base64."""
    text = json.dumps(answer)
    message = answer.get("message")
    if isinstance(message, dict) and "data" in message:
        text += base64.b64decode(message["data"]).decode()
    return text
