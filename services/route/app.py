"""Composition of route: opens jobs, answers asks, renders prompts, decides, scatters, reports."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats.micro.service import Service as MicroService

from contracts.steps import Decide, Open, Render, Report, Scatter
from contracts.subjects import ALARMS, alarm
from services.route import handlers
from services.route.adapters.asks import Asks
from services.route.adapters.depths import Depths
from services.route.adapters.given_up import GivenUp
from services.route.adapters.intake import Intake
from services.route.adapters.opener import Opener
from services.route.adapters.paces import Paces
from services.route.adapters.redis_watch import RedisWatch
from services.route.adapters.replicas import Replicas
from services.route.adapters.reports import Reports
from services.route.adapters.rollout import Rollout
from services.route.adapters.windows import Windows
from services.route.config import RouteSettings
from services.route.domain.caching import keeping
from services.route.domain.gate import experts_of
from services.route.domain.patterns import load_patterns
from services.route.domain.prompts import FOLDER, load_prompts
from shared.bus import Bus
from shared.models import load_catalogue
from shared.service import Runtime, main, service


@asynccontextmanager
async def build(runtime: Runtime[RouteSettings]) -> AsyncIterator[None]:
    settings = runtime.settings
    prompts, catalogue = load_prompts(settings.prompts or FOLDER), load_catalogue(runtime.stack.models)
    patterns = keeping(load_patterns(experts_of(catalogue)), prompts, catalogue)
    paces, windows = Paces(runtime.redis), Windows(runtime.hops, patterns, settings)
    opener = Opener(runtime.hops, patterns, prompts, catalogue, settings, runtime.worker, paces, windows)
    reports = Reports(runtime.hops, runtime.cancels, paces, runtime.telemetry)
    intake = Intake(runtime.bus, opener, runtime.pulls)
    # who waits for a reply is told at once that the queue is full
    asks = Asks(Bus.on(runtime.bus.nc, accounts=runtime.bus.accounts))

    replicas = Replicas(runtime.bus)
    ready = Rollout(replicas).ready
    runtime.on(Render, lambda task, step: handlers.render(task, step, prompts, catalogue, replicas.choose, ready))
    runtime.on(Decide, lambda task, step: handlers.decide(task, step, patterns))
    runtime.on(Scatter, lambda task, step: handlers.scatter(task, step, settings.shard_size))
    runtime.on(Open, windows.go_on)
    runtime.on(Report, reports.write)

    async def begin(micro: MicroService) -> None:
        await intake.look()
        await runtime.worker.pull(ALARMS, "route-alarms", alarm(">"), settings.batch_slots)
        runtime.pulls += [await GivenUp(runtime.hops, settings).pull()]
        await replicas.open()
        await asks.announce(micro)

    runtime.when_started(begin)
    watching = asyncio.create_task(RedisWatch(runtime.hops, runtime.redis).run())
    looking = asyncio.create_task(intake.run())
    measuring = asyncio.create_task(Depths(runtime.bus, runtime.telemetry).watch())
    yield
    for task in (watching, looking, measuring):
        task.cancel()
    await replicas.close()


app = service(RouteSettings, build)

if __name__ == "__main__":
    main(app)
