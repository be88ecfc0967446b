"""Composition of route: opens jobs, answers asks, renders prompts, decides, scatters, reports."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats.micro.service import Service as MicroService

from contracts.steps import Decide, Render, Report, Scatter
from contracts.subjects import ALARMS, alarm
from services.route import handlers
from services.route.adapters.asks import Asks
from services.route.adapters.opener import Opener
from services.route.adapters.reports import Reports
from services.route.config import RouteSettings
from services.route.domain.patterns import load_patterns
from services.route.domain.prompts import load_prompts
from shared.models import load_catalogue
from shared.service import Runtime, main, service


@asynccontextmanager
async def build(runtime: Runtime[RouteSettings]) -> AsyncIterator[None]:
    settings = runtime.settings
    patterns, prompts = load_patterns(), load_prompts()
    catalogue = load_catalogue(runtime.stack.models)
    opener = Opener(runtime.hops, patterns, prompts, catalogue, settings, runtime.worker.audit)
    reports = Reports(runtime.hops, runtime.cancels)
    asks = Asks(runtime.bus)

    runtime.on(Render, lambda task, step: handlers.render(task, step, prompts, catalogue))
    runtime.on(Decide, lambda task, step: handlers.decide(task, step, patterns))
    runtime.on(Scatter, lambda task, step: handlers.scatter(task, step, settings.shard_size))
    runtime.on(Report, reports.write)

    async def begin(micro: MicroService) -> None:
        await runtime.worker.pull(ALARMS, "route-alarms", alarm(">"), settings.batch_slots)
        jobs = await opener.pull()
        runtime.resumed.append(jobs.resume)
        runtime.draining.append(lambda: jobs.drain(settings.ack_wait_s))
        await asks.announce(micro)

    runtime.when_started(begin)
    yield


app = service(RouteSettings, build)

if __name__ == "__main__":
    main(app)
