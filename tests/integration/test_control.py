"""Cancellations reach every service, whatever another tenant sends: each tenant has a stream of its own for them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nats
import pytest
from faststream.nats import NatsBroker
from in_process import eventually
from nats.aio.client import Client
from servers import bus_of_two_tenants

from client.client import Penstock
from client.stack import StackInfo
from client.stack.config import nats_url
from client.stack.secrets import load, service_user
from contracts.accounts import control
from shared import cancels as cancels_module
from shared.bus import Bus
from shared.cancels import Cancels
from shared.control import Control

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]

FLOOD = 20_000
PADDING = b'{"reason": "' + b"x" * 1024 + b'"}'


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackInfo]:
    with bus_of_two_tenants(tmp_path_factory.mktemp("control")) as found:
        yield found


@pytest.fixture
async def evil(stack: StackInfo) -> AsyncIterator[Client]:
    nc = await nats.connect(nats_url(stack.nats_port, "evil", load(Path(stack.data)).tenants["evil"]))
    yield nc
    await nc.close()


@pytest.fixture
async def acme(stack: StackInfo) -> AsyncIterator[Penstock]:
    url = nats_url(stack.nats_port, "acme", load(Path(stack.data)).tenants["acme"])
    async with await Penstock.connect(url, "acme") as penstock:
        yield penstock


class Listener:
    """What a service knows of cancellations."""

    def __init__(self, broker: NatsBroker) -> None:
        self.broker = broker
        self.cancels = Cancels()
        self.control = Control(broker, Bus.on(broker.connection, accounts=True), self.cancels)


@pytest.fixture
async def listener(stack: StackInfo) -> AsyncIterator[Listener]:
    password = load(Path(stack.data)).services["judge"]
    broker = NatsBroker(nats_url(stack.nats_port, service_user("judge"), password), logger=None)
    await broker.start()
    yield Listener(broker)
    await broker.stop()


async def test_a_flood_of_one_tenant_keeps_nobodys_cancellation_from_being_heard(
    stack: StackInfo, listener: Listener, acme: Penstock, evil: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said before the flood, in the middle of it, and to a service that starts after it."""
    monkeypatch.setattr(cancels_module, "_KEEP", 1000)
    await listener.control.look()
    await acme.cancel("before", "wrong file")
    await eventually(lambda: listener.cancels.reason("acme", "before") == "cancelled: wrong file")
    for n in range(FLOOD):
        await evil.publish(f"control.evil.cancel.j{n}", PADDING)
    await acme.cancel("after")
    await evil.flush()
    await eventually(lambda: listener.cancels.reason("acme", "after") is not None)
    assert listener.cancels.reason("acme", "before") is not None
    assert listener.cancels.reason("evil", f"j{FLOOD - 1}") is None  # its own flood is what it waits behind

    late = Listener(listener.broker)
    await late.control.look()
    await eventually(lambda: late.cancels.reason("acme", "after") is not None)
    assert late.cancels.reason("acme", "before") is not None

    nc = await nats.connect(stack.operator_url)
    sizes = {name: await nc.jetstream().stream_info(control(name).name) for name in ("acme", "evil")}
    assert sizes["acme"].state.messages == 2
    assert sizes["evil"].state.messages > FLOOD / 2
    assert all(info.config.max_bytes == control("x").max_bytes for info in sizes.values())
    await nc.close()


async def test_after_a_reconnect_the_last_word_on_every_job_is_heard_again(listener: Listener, acme: Penstock) -> None:
    await listener.control.look()
    await acme.cancel("once")
    await eventually(lambda: listener.cancels.reason("acme", "once") is not None)
    fresh = listener.control._cancels = Cancels()
    await listener.control.resume()
    await eventually(lambda: fresh.reason("acme", "once") is not None)
    await acme.cancel("twice")
    await eventually(lambda: fresh.reason("acme", "twice") is not None)
