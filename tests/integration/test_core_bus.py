"""Streams, claims and what the server's answers mean, on a real nats-server."""

from pathlib import Path

import nats
import pytest
from in_process import Core
from nats.js.api import DiscardPolicy, RetentionPolicy, StreamConfig
from servers import start_nats

from contracts import subjects
from contracts.subjects import ALARMS, CLAIM, CLAIMS, DAY, DOCUMENTS, JOBS, RESULTS, STREAMS
from shared import bus as bus_module
from shared.bus import CLAIM_BYTES, Bus
from shared.errors import Poison, QueueFull, Retryable
from shared.settings import StreamSizes
from shared.streams import GB, NOTHING_SET, backing

pytestmark = pytest.mark.servers


async def test_streams_are_as_the_contracts_say_and_stay_so(core: Core) -> None:
    await core.bus.ensure()
    for stream in STREAMS:
        config = (await core.bus.js.stream_info(stream.name)).config
        assert (config.subjects, config.max_bytes) == (list(stream.subjects), stream.max_bytes)
    jobs = (await core.bus.js.stream_info(JOBS.name)).config
    assert (jobs.retention, jobs.discard) == (RetentionPolicy.WORK_QUEUE, DiscardPolicy.NEW)
    alarms = (await core.bus.js.stream_info(ALARMS.name)).config
    assert (alarms.allow_msg_schedules, alarms.discard) == (True, DiscardPolicy.OLD)


async def test_sizes_that_are_set_hold_for_new_streams_and_for_old_ones_and_stay(tmp_path: Path) -> None:
    set_once = StreamSizes(results_gb=0.5, results_days=30, events_days=0.5, work_gb=0.25)
    with start_nats(tmp_path) as server:
        nc = await nats.connect(server.url)
        for sizes, gigabytes, days, claims in (
            (NOTHING_SET, 8, 7, 7), (set_once, 0.5, 30, 30), (NOTHING_SET, 0.5, 30, 30),
            (StreamSizes(results_days=1), 0.5, 1, 7),
        ):  # fmt: skip
            bus = Bus.on(nc, sizes=sizes)
            await bus.ensure()
            results = (await bus.js.stream_info(RESULTS.name)).config
            assert (results.max_bytes, results.max_age) == (gigabytes * GB, days * DAY)
            assert (await bus.js.stream_info(backing(CLAIMS))).config.max_age == claims * DAY
        events, work = [(await bus.js.stream_info(name)).config for name in ("EVENTS", "WORK")]
        assert (events.max_bytes, events.max_age) == (2 * GB, 0.5 * DAY)
        assert work.max_bytes == GB // 4
        await nc.close()


async def test_a_stream_of_schedules_may_not_refuse_when_it_is_full(core: Core) -> None:
    """Why ALARMS is a stream of its own: see docs/decisions/0009."""
    config = StreamConfig(name="X", subjects=["x.>"], discard=DiscardPolicy.NEW, allow_msg_schedules=True)
    with pytest.raises(nats.js.errors.APIError) as refused:
        await core.bus.js.add_stream(config)
    assert refused.value.err_code == 10052


@pytest.mark.parametrize(("messages", "size"), [(2, -1), (-1, 500)])
async def test_a_full_queue_says_so_and_when_to_come_back(core: Core, messages: int, size: int) -> None:
    config = StreamConfig(name="SMALL", subjects=["small"], max_msgs=messages, max_bytes=size)
    await core.bus.js.add_stream(config.evolve(discard=DiscardPolicy.NEW))
    try:
        for _ in range(2):
            await core.bus.publish("small", b"x" * 180)
        with pytest.raises(QueueFull, match="full") as full:
            await core.bus.publish("small", b"x" * 180)
        assert full.value.after == 5.0
    finally:
        await core.bus.js.delete_stream("SMALL")


async def test_a_full_log_of_documents_loses_none_and_takes_new_versions(core: Core) -> None:
    config = (await core.bus.js.stream_info(DOCUMENTS.name)).config
    await core.bus.js.update_stream(config.evolve(max_msgs=2))
    try:
        for name in ("a", "b"):
            await core.bus.publish(subjects.documents(core.tenant, name), b"first")
        with pytest.raises(QueueFull, match="full"):
            await core.bus.publish(subjects.documents(core.tenant, "c"), b"first")
        await core.bus.publish(subjects.documents(core.tenant, "a"), b"second")
    finally:
        await core.bus.ensure()
    assert await core.messages(DOCUMENTS.name, subjects.documents(core.tenant, "*")) == [b"first", b"second"]


async def test_a_subject_without_a_stream_may_get_one_later(core: Core) -> None:
    with pytest.raises(Retryable, match="does not answer"):
        await core.bus.publish("nobody.listens", b"x")


async def test_write_once_keeps_the_first(core: Core) -> None:
    subject = subjects.result(core.tenant, "j", 0)
    assert [await core.bus.write_once(subject, text) for text in (b"first", b"second")] == [True, False]
    stored = await core.bus.last(RESULTS, subject)
    assert stored is not None
    assert stored.data == b"first"
    await core.bus.remove(RESULTS, subject)
    assert await core.bus.write_once(subject, b"third")
    assert await core.bus.last(RESULTS, subjects.result(core.tenant, "j", 1)) is None


@pytest.mark.parametrize(("size", "claimed"), [(CLAIM_BYTES, False), (CLAIM_BYTES + 1, True), (3 << 20, True)])
async def test_large_payloads_lie_in_the_object_store(core: Core, size: int, claimed: bool) -> None:
    subject = subjects.result(core.tenant, "j", 0)
    payload = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert await core.bus.write_once(subject, payload)
    raw = await core.bus.js.get_last_msg(RESULTS.name, subject)
    assert (CLAIM in (raw.headers or {}), len(raw.data or b"")) == (claimed, 0 if claimed else size)
    read = await core.bus.last(RESULTS, subject)
    assert read is not None
    assert read.data == payload


async def test_equal_bytes_are_one_object(core: Core) -> None:
    assert await core.bus.put_claim(b"same") == await core.bus.put_claim(b"same")
    assert len(await (await core.bus.objects()).list()) == 1


async def test_a_claim_without_an_object_is_poison(core: Core) -> None:
    with pytest.raises(Poison, match=r"claim nothing: no such object in the store 'claims'; it may have expired"):
        await core.bus.get_claim("nothing")


async def test_an_object_whose_pieces_are_gone_does_not_stop_the_worker(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "_GET_S", 0.5)
    name = await core.bus.put_claim(b"x" * 300_000)
    info = await (await core.bus.objects()).get_info(name)
    await core.bus.js.purge_stream("OBJ_claims", subject=f"$O.claims.C.{info.nuid}")
    with pytest.raises(Retryable, match="does not give it whole"):
        await core.bus.get_claim(name)


async def test_parked_is_found_until_it_goes_on(core: Core) -> None:
    group = core.group()
    assert await core.bus.find_parked(group) is None
    await core.bus.park(group, b"waiting")
    assert await core.bus.find_parked(group) == b"waiting"
    await core.bus.unpark(group)
    await core.bus.unpark(group)
    assert await core.bus.find_parked(group) is None


async def test_a_server_that_is_away_makes_it_retryable(tmp_path: Path) -> None:
    async def silent(_: Exception) -> None:
        return

    with start_nats(tmp_path) as server:
        nc = await nats.connect(server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05, error_cb=silent)
        bus = Bus.on(nc)
        await bus.ensure()
        await bus.write_once("results.t.j.0", b"kept")
        server.kill()
        await nc.close()
        with pytest.raises(Retryable, match="NATS does not answer"):
            await bus.write_once("results.t.j.1", b"lost")
        server.start()
        again = await nats.connect(server.url, error_cb=silent)
        found = await Bus.on(again).last(RESULTS, "results.t.j.0")
        assert found is not None
        assert found.data == b"kept"
        await again.close()
