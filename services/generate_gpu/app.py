"""generate: composition. Run with `python -m services.generate_gpu.app`."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

from nats.micro.service import Service as MicroService

from contracts.steps import Generate
from services.generate_gpu.adapters.breakers import RedisBreakers, watch
from services.generate_gpu.adapters.ledger import RedisLedger
from services.generate_gpu.adapters.limits import RedisLimiter
from services.generate_gpu.adapters.register import Register
from services.generate_gpu.adapters.tokens import NatsTokens
from services.generate_gpu.adapters.usage import UsageDesk
from services.generate_gpu.adapters.warming import Warming
from services.generate_gpu.config import GenerateSettings
from services.generate_gpu.domain.completion import Engine, Keeping, Starting
from services.generate_gpu.domain.load import Load
from services.generate_gpu.domain.permits import Limited, Unlimited
from services.generate_gpu.domain.shares import Shares
from services.generate_gpu.engines.canned import Canned
from services.generate_gpu.engines.extractive import Extractive
from services.generate_gpu.engines.noop import Noop
from services.generate_gpu.handlers import Workshop, generate
from shared.attempts import RedisAttempts
from shared.encoder import Encoder
from shared.limits import load_limits
from shared.models import Catalogue, Model, load_catalogue
from shared.service import Runtime, main, service


@asynccontextmanager
async def build(runtime: Runtime[GenerateSettings]) -> AsyncIterator[None]:
    catalogue = load_catalogue(runtime.stack.models)
    engines = open_engines(catalogue, runtime.settings)
    guards = RedisBreakers(runtime.redis)
    workshop = Workshop(
        catalogue=catalogue,
        engines=engines,
        ledger=RedisLedger(runtime.redis, runtime.settings.ledger_ttl_s),
        publisher=NatsTokens(runtime.bus.nc),
        attempts=RedisAttempts(runtime.redis),
        items_at_once=runtime.settings.items_at_once,
        tries=runtime.settings.attempts,
        longest_pause_s=runtime.settings.ledger_ttl_s / 2,  # it may stand in the queue for some time after that
        cancelled=runtime.cancels.reason,
        breakers=guards,
        limits=limited(runtime, catalogue),
        shares=Shares(runtime.settings.interactive_slots),
    )
    keeping = {name: engine for name, engine in engines.items() if isinstance(engine, Keeping)}
    if keeping:
        register(runtime, keeping, workshop.load)
    async with started(engines.values()):
        runtime.on(Generate, lambda task, step: generate(task, step, workshop))
        guarded = [model.name for model in catalogue.models if guards.guards(model)]
        watching = asyncio.create_task(watch(runtime.redis, guarded, runtime.telemetry)) if guarded else None
        yield
        if watching is not None:
            watching.cancel()


@asynccontextmanager
async def started(engines: Collection[Engine]) -> AsyncIterator[None]:
    """All are closed at the end, also where one does not start: vLLM cannot be left to the end of the interpreter."""
    try:
        await asyncio.gather(*(engine.start() for engine in engines if isinstance(engine, Starting)))
        yield
    finally:
        await asyncio.gather(*(engine.close() for engine in engines))


def limited(runtime: Runtime[GenerateSettings], catalogue: Catalogue) -> Limited | Unlimited:
    """The limits of limits.yaml, and the endpoint that says what is used of them."""
    limits = load_limits(runtime.stack.limits, [model.name for model in catalogue.models])
    limiter = RedisLimiter(runtime.redis, limits.batch, limits.reserve_s, 2 * runtime.settings.ledger_ttl_s)
    runtime.telemetry.names_user = limits.names
    runtime.when_started(UsageDesk(limits, limiter).announce)
    return Unlimited() if limits.none else Limited(limits, limiter, runtime.telemetry.met_limit)


def register(runtime: Runtime[GenerateSettings], engines: Mapping[str, Keeping], load: Load) -> None:
    """Let route send prompts to this replica by name: these models keep prefixes in this process."""
    name = uuid.uuid4().hex[:8]
    place = Register(runtime.worker, name, engines, runtime.settings.prefix_slots, load)
    warming = Warming(runtime.bus.nc, name, engines, load)

    async def begin(_: MicroService) -> None:
        await warming.open()
        await place.open()

    runtime.when_started(begin)
    runtime.leaving += [place.leave, warming.close]
    runtime.left += [place.close]


def open_engines(catalogue: Catalogue, settings: GenerateSettings) -> dict[str, Engine]:
    """An engine for each model of the catalogue."""
    hosted = [model for model in catalogue.models if model.engine == "vllm"]
    found = {model.name: _engine(model, settings) for model in catalogue.models if model.engine != "vllm"}
    return found | (open_vllm(hosted) if hosted else {})


def open_vllm(models: Sequence[Model]) -> dict[str, Engine]:
    """vLLM for these models; those of one id share one engine. Raises SettingsError where it is not installed."""
    from services.generate_gpu.engines.vllm import Vllm  # vLLM is an extra: imported where the catalogue names it
    from services.generate_gpu.engines.vllm_host import Host, check_installed

    check_installed(models)
    ids = dict.fromkeys(model.id for model in models)
    turn = asyncio.Lock()
    hosts = {name: Host([model for model in models if model.id == name], turn) for name in ids}
    return {model.name: Vllm(model, hosts[model.id]) for model in models}


def _engine(model: Model, settings: GenerateSettings) -> Engine:
    match model.engine:
        case "extractive":
            return Extractive(model, Encoder(), settings.reader_threads)
        case "openai":
            from services.generate_gpu.engines.openai import OpenAI  # 20 MB that the default catalogue needs not

            return OpenAI(model, settings.connections)
        case "canned":
            return Canned(model)
        case "noop":
            return Noop(model)
        case "vllm":
            raise AssertionError("vllm models are opened together, by open_vllm")


app = service(GenerateSettings, build)

if __name__ == "__main__":
    main(app)
