"""Three NATS servers with streams of three replicas: who leads the work is killed, and a job of 5,000 ends whole."""

from pathlib import Path

import pytest
from cluster import SIZE, NatsCluster, cluster
from long_job import NEEDED, long_job
from nats.aio.client import Client

from client.stack.config import SERVICES
from client.stack.provision import provision
from client.stack.secrets import DEFAULT_TENANT, Secrets, service_user
from contracts.accounts import api
from contracts.subjects import BUCKETS, CLAIMS, RESULTS, WORK
from shared.bus import Bus
from shared.streams import backing

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

ITEMS = 5_000


async def test_a_job_ends_whole_while_the_leader_of_its_work_is_killed_twice(tmp_path: Path, redis_server: str) -> None:
    secrets = Secrets().complete(SERVICES, [DEFAULT_TENANT])
    async with cluster(tmp_path, secrets) as servers:
        urls = {name: servers.url(service_user(name), secrets.services[name]) for name in NEEDED}
        tenant = servers.url(DEFAULT_TENANT, secrets.tenants[DEFAULT_TENANT])
        settings = {"PENSTOCK_ACCOUNTS": "true", "PENSTOCK_STREAM_REPLICAS": str(SIZE)}
        async with long_job(tmp_path, ITEMS, tenant, urls, redis_server, **settings) as job, servers.operator() as nc:
            await job.submit()
            await job.until_answered(0.2)
            first = await kill_leader(servers, nc)
            await job.until_answered(0.5)
            servers.start(first)
            await job.until_answered(0.6)
            servers.start(await kill_leader(servers, nc))
            _, verdict = await job.end(120)
            assert verdict.faults == []
            assert (verdict.arrived, verdict.lost, verdict.doubled, verdict.failed) == (ITEMS, 0, 0, 0)


async def test_what_is_published_during_an_election_is_stored_once(tmp_path: Path) -> None:
    """Nobody who is patient is told of it, and ids that are sent again are known to the new leader."""
    async with cluster(tmp_path, Secrets().complete(SERVICES, [])) as servers, servers.operator() as nc:
        bus = Bus.on(nc, patient=True)
        for n in range(40):
            if n == 10:
                killed = await kill_leader(servers, nc)
            await bus.publish(f"work.nobody.{n}", b"{}", msg_id=f"id-{n}")
        servers.start(killed)
        for n in range(40):
            await bus.publish(f"work.nobody.{n}", b"{}", msg_id=f"id-{n}")
        info = await nc.jetstream().stream_info(WORK.name)
        assert (info.state.messages, info.config.num_replicas) == (40, SIZE)


async def test_a_stream_gets_its_replicas_when_it_is_provisioned_again(tmp_path: Path) -> None:
    secrets = Secrets().complete(SERVICES, [DEFAULT_TENANT])
    async with cluster(tmp_path, secrets, replicas=1) as servers, servers.operator() as nc:
        await provision(nc, secrets.tenants, SIZE)
        theirs = nc.jetstream(prefix=api(DEFAULT_TENANT))
        for js, name in [(nc.jetstream(), WORK.name), *((nc.jetstream(), backing(bucket)) for bucket in BUCKETS)]:
            assert (await js.stream_info(name)).config.num_replicas == SIZE
        for name in (RESULTS.name, backing(CLAIMS)):
            assert (await theirs.stream_info(name)).config.num_replicas == SIZE


async def kill_leader(servers: NatsCluster, nc: Client) -> str:
    """kill -9 of the server that leads WORK; its name."""
    info = await nc.jetstream().stream_info(WORK.name)
    assert info.cluster is not None
    assert info.cluster.leader is not None
    servers.kill(info.cluster.leader)
    return info.cluster.leader
