"""The engines that serve, as one store. While others are being filled, what is indexed goes to them as well."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from services.retrieve.domain.ports import Entry, Level, Scope, Store, Successor, Vectors, WeightedQuery, Words
from shared.encoder import Floats
from shared.errors import PenstockError, Poison, Retryable


class Filling:
    """Engines that are being filled beside those that serve. Their first fault is kept and ends their filling; those
    that serve are none the worse for it."""

    def __init__(self, engines: Sequence[Successor]) -> None:
        self.engines = engines
        self._waiting: list[Successor] = []  # those that have begun and do not serve yet
        self._fault: PenstockError | None = None

    async def begin(self) -> None:
        """Raises Retryable, Poison or SettingsError where an engine cannot be filled."""
        for engine in self.engines:
            await engine.begin()
            self._waiting.append(engine)

    async def fill(self, tenant: str, entries: Sequence[Entry]) -> None:
        await self._each(lambda engine: engine.fill(tenant, entries))

    async def replace(self, tenant: str, *entries: Entry) -> None:
        await self._each(lambda engine: engine.replace(tenant, *entries))

    async def remove(self, tenant: str, document: str) -> None:
        await self._each(lambda engine: engine.remove(tenant, document))

    def check(self) -> None:
        """Raises the first fault, if there was one."""
        if self._fault is not None:
            raise self._fault

    async def serve(self) -> None:
        """Let the engines take their names, one after the other."""
        for engine in self.engines:
            await engine.serve()
            self._waiting.remove(engine)

    async def give_up(self) -> None:
        """Delete what was begun and does not serve, as far as the engines let us; the next attempt deletes the rest."""
        for engine in self.engines:
            with suppress(Retryable, Poison):
                if engine in self._waiting:
                    await engine.discard()
            await engine.close()

    async def _each(self, change: Callable[[Successor], Awaitable[None]]) -> None:
        if self._fault is not None:
            return
        try:
            for engine in self.engines:
                await change(engine)
        except (Retryable, Poison) as fault:
            self._fault = fault


class Live:
    """Serves the Protocols Vectors and Words with whatever engines are chosen at the moment. A question that is under
    way during a switch asks both, which does no harm: a passage has the same id in every engine."""

    def __init__(self, vectors: Vectors, words: Words) -> None:
        self._vectors = vectors
        self._words = words
        self.filling: Filling | None = None

    @property
    def engines(self) -> list[Store]:
        """The engines; one where it serves for both."""
        return list({id(engine): engine for engine in (self._vectors, self._words)}.values())

    @property
    def written(self) -> list[Store]:
        """All that hold documents: those that serve, and those that are being filled."""
        return [*self.engines, *(self.filling.engines if self.filling is not None else ())]

    def switch(self, vectors: Vectors, words: Words) -> list[Store]:
        """Serve with these from now on; returns those of before, still open."""
        earlier = self.engines
        self._vectors, self._words, self.filling = vectors, words, None
        return earlier

    async def open(self) -> bool:
        return any([await engine.open() for engine in self.engines])

    async def replace(self, tenant: str, *entries: Entry) -> None:
        for engine in self.engines:
            await engine.replace(tenant, *entries)
        if self.filling is not None:
            await self.filling.replace(tenant, *entries)

    async def remove(self, tenant: str, document: str) -> None:
        for engine in self.engines:
            await engine.remove(tenant, document)
        if self.filling is not None:
            await self.filling.remove(tenant, document)

    async def nearest(self, tenant: str, vector: Floats, scope: Scope, level: Level, limit: int) -> list[int]:
        return await self._vectors.nearest(tenant, vector, scope, level, limit)

    async def matching(self, tenant: str, query: WeightedQuery, scope: Scope, level: Level, limit: int) -> list[int]:
        return await self._words.matching(tenant, query, scope, level, limit)

    async def close(self) -> None:
        for engine in self.engines:
            await engine.close()
