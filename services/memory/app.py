"""memory: composition. Run with `python -m services.memory.app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from contracts.steps import Recall, Remember
from services.memory.adapters.sessions import RedisSessions
from services.memory.config import MemorySettings
from services.memory.handlers import recall, remember
from shared.service import Runtime, main, service


@asynccontextmanager
async def build(runtime: Runtime[MemorySettings]) -> AsyncIterator[None]:
    settings = runtime.settings
    sessions = RedisSessions(runtime.redis, settings.kept_turns, settings.session_ttl_s)
    runtime.on(Recall, lambda task, step: recall(task, step, sessions))
    runtime.on(Remember, lambda task, step: remember(task, sessions))
    yield


app = service(MemorySettings, build)

if __name__ == "__main__":
    main(app)
