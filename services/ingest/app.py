"""Ingest: documents in, chunks in the log."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from contracts.steps import Parse, Sections
from services.ingest.adapters.library import BusFiles, BusLibrary
from services.ingest.adapters.limits import Limits
from services.ingest.adapters.parser import Parser
from services.ingest.config import IngestSettings
from services.ingest.handlers import parse, sections
from shared.service import Runtime, main, service


@asynccontextmanager
async def build(runtime: Runtime[IngestSettings]) -> AsyncIterator[None]:
    settings = runtime.settings
    limits = limits_of(settings)
    parser = Parser(limits, settings.parsers, settings.parser_idle_s)
    library = BusLibrary(runtime.bus)

    def files(tenant: str) -> BusFiles:
        return BusFiles(runtime.bus, limits.document, tenant)

    runtime.on(Parse, lambda task, step: parse(task.items, step, parser, files(task.tenant), library, task.tenant))
    runtime.on(Sections, lambda task, step: sections(task.items, step, parser, files(task.tenant)))
    yield
    await parser.close()


def limits_of(settings: IngestSettings) -> Limits:
    """The settings as the parser child takes them."""
    return Limits(
        document=settings.document_mb << 20,
        expanded=settings.expanded_mb << 20,
        memory=settings.parser_memory_mb << 20,
        seconds=settings.parser_seconds,
    )


app = service(IngestSettings, build)

if __name__ == "__main__":
    main(app)
