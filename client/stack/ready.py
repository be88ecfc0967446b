"""Waits until every part of a stack answers, and tells which one does not and why."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from client.discovery import PREFIX, Pong, connected, discover
from client.errors import StackError
from client.stack.config import GROUND, server_name
from client.stack.info import StackInfo
from client.stack.ports import HOST
from client.stack.supervisor import Supervisor

PAUSE_S = 0.05
CHECK_S = 0.25
ROUND_S = 0.4  # how long one round of discovery listens
FAILED_STARTS = 2  # after so many a program is given up: it ended at once, or a while after it began


class PortTaken(StackError):
    """Somebody else took a port between choosing and starting."""


class Watch:
    """Looks whether programs fail while others wait for them; knows how long each log was before the start."""

    def __init__(self, info: StackInfo, sizes: dict[str, int]) -> None:
        self._info = info
        self._sizes = sizes
        self._starts: dict[str, set[int]] = {}

    def check(self) -> None:
        """Raises StackError where a program has failed for good, with the cause from its log."""
        for process in Supervisor(self._info.socket).processes():
            seen = self._starts.setdefault(process.name, set())
            seen |= {process.started} - {0}
            ended = len(seen) - (process.state != "BACKOFF")  # a start that has failed, and not been repeated yet
            if process.state == "FATAL" or ended >= FAILED_STARTS:
                raise self.error(process.name, "did not start")

    def error(self, name: str, what: str) -> StackError:
        log = Path(self._info.data) / "logs" / f"{name}.log"
        reason = cause(log, self._sizes.get(name, 0))
        kind = PortTaken if "address already in use" in reason.lower() else StackError
        return kind(f"{name} {what}: {reason or 'it says nothing'} (log: {log})")


def log_sizes(data: Path) -> dict[str, int]:
    """Program name and how long its log is now."""
    return {log.stem: log.stat().st_size for log in (data / "logs").glob("*.log")}


def cause(log: Path, start: int = 0, limit: int = 300) -> str:
    """The line of a log that says best why a program ended: the last that speaks of an error, else the last."""
    try:
        with log.open("rb") as file:
            file.seek(start)
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(" ")]
    told = [line for line in lines if re.search(r"error|fatal|exception|\[FTL\]|cannot|denied|in use", line, re.I)]
    return (told or lines or [""])[-1][:limit]


async def wait_ready(info: StackInfo, watch: Watch, timeout_s: float, tenants: Sequence[str] = ()) -> None:
    """Makes the streams, those of these tenants too; returns when NATS with JetStream, Redis and all services answer.

    Raises StackError where they do not in time.
    """
    waiting = Waiting([*GROUND, *info.services])
    answers = asyncio.create_task(_all_answer(info, waiting, tenants))
    failure = asyncio.create_task(_first_failure(watch))
    tasks = {answers, failure}
    done, _ = await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks - done:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if not done:
        raise watch.error(waiting.first, f"did not answer within {timeout_s:g} s")
    for task in done:
        task.result()


@dataclass
class Waiting:
    """Who has not answered yet, in the order in which they are asked."""

    names: list[str]

    @property
    def first(self) -> str:
        return self.names[0]

    def seen(self, name: str) -> None:
        if name in self.names:
            self.names.remove(name)


async def _first_failure(watch: Watch) -> None:
    """Ends with StackError as soon as a program has failed for good."""
    while True:
        await asyncio.sleep(CHECK_S)
        try:
            await asyncio.to_thread(watch.check)
        except OSError as error:
            raise StackError(f"supervisord is gone: {error}") from None


async def _all_answer(info: StackInfo, waiting: Waiting, tenants: Sequence[str]) -> None:
    await asyncio.gather(_nats_answers(info, waiting, tenants), _redis_answers(info, waiting))
    async with connected(info.operator_url) as nc:
        while waiting.names:
            for pong in await discover(nc, "PING", Pong, listen_s=ROUND_S, enough=len(waiting.names)):
                waiting.seen(pong.name.removeprefix(PREFIX))


async def _nats_answers(info: StackInfo, waiting: Waiting, tenants: Sequence[str]) -> None:
    from nats.errors import Error

    from client.stack.provision import provision

    await _our_nats_listens(info)
    async with connected(info.operator_url) as nc:
        while True:
            try:
                await nc.jetstream().account_info()
                break
            except Error:
                await asyncio.sleep(PAUSE_S)
        if tenants:
            await provision(nc, tenants)
    waiting.seen("nats")


async def _redis_answers(info: StackInfo, waiting: Waiting) -> None:
    import redis.asyncio as redis
    from redis.exceptions import BusyLoadingError, ConnectionError

    async with redis.Redis.from_url(info.redis_url) as connection:
        while True:
            try:
                await connection.ping()
                break
            except (BusyLoadingError, ConnectionError):  # not there yet, or still reading its log
                await asyncio.sleep(PAUSE_S)
    waiting.seen("redis")


async def _our_nats_listens(info: StackInfo) -> None:
    """A NATS server greets with its name: see that it is ours before anything is said to it."""
    while True:
        try:
            reader, writer = await asyncio.open_connection(HOST, info.nats_port)
        except OSError:
            await asyncio.sleep(PAUSE_S)
            continue
        greeting = await reader.readline()
        writer.close()
        if f'"{server_name(info)}"'.encode() not in greeting:
            raise PortTaken(f"port {info.nats_port}: address already in use by another server")
        return
