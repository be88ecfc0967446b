"""An OpenAI-compatible server that says what a script tells it, faults included.

    async with ScriptedModel.running() as model:
        model.when("capital of France", "Paris.", Reply(fault="hang"))
        ...  # speak to model.url
        assert model.calls("France") == 2

Rules are tried in the order they were given; the first whose pattern is found in the prompt gives its replies in turn,
the last one again and again. A prompt without a rule gets 404, so that a test cannot pass by accident.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

Fault = Literal["hang", "reset", "half", "garbage", "error-event", "no-usage", "no-done"]


@dataclass(frozen=True)
class Reply:
    """One answer. `texts` are the samples of a call with n > 1; a status other than 200 sends `text` as the error."""

    text: str = ""
    texts: Sequence[str] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    fault: Fault | None = None
    finish_reason: str = "stop"
    delay_s: float = 0.0
    pause_s: float = 0.0  # in a stream, after each piece
    prompt_tokens: int | None = None  # default: words of the prompt
    cached_tokens: int = 0
    completion_tokens: int | None = None
    refusal: str | None = None
    code: str | None = None  # of an error
    tools: Sequence[tuple[str, str]] = ()  # calls: the tool's name, its arguments as they are written


@dataclass(frozen=True)
class Call:
    """A request as it came."""

    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def prompt(self) -> str:
        return "\n".join(message["content"] for message in self.body["messages"])

    @property
    def last(self) -> str:
        """The last message."""
        return str(self.body["messages"][-1]["content"])


@dataclass
class _Rule:
    pattern: re.Pattern[str]
    replies: list[Reply]
    used: int = 0

    def next(self) -> Reply:
        reply = self.replies[min(self.used, len(self.replies) - 1)]
        self.used += 1
        return reply


@dataclass
class ScriptedModel:
    """The script, and what has been asked so far."""

    rules: list[_Rule] = field(default_factory=list)
    requests: list[Call] = field(default_factory=list)
    key: str = ""  # where set, every call must bring it
    one_at_a_time: bool = False  # like endpoints that ignore `n`
    aborted: int = 0  # calls that the client left before their end
    most_at_once: int = 0
    port: int = 0
    answer: Callable[["Call"], Awaitable["Reply"]] | None = None  # in place of rules; its calls are not kept
    _running: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def when(self, pattern: str, *replies: str | Reply) -> None:
        """Answer prompts in which the regular expression is found."""
        given = [Reply(reply) if isinstance(reply, str) else reply for reply in replies]
        self.rules.append(_Rule(re.compile(pattern, re.DOTALL), given))

    def calls(self, pattern: str = "") -> int:
        """How many calls came whose prompt has this in it."""
        return sum(re.search(pattern, call.prompt, re.DOTALL) is not None for call in self.requests)

    async def until(self, happened: Callable[["ScriptedModel"], bool], timeout_s: float = 10) -> None:
        """Wait until calls that came or were aborted make this true."""
        async with asyncio.timeout(timeout_s):
            while not happened(self):
                self._news.clear()
                await self._news.wait()

    @classmethod
    @asynccontextmanager
    async def running(cls, host: str = "127.0.0.1") -> AsyncIterator["ScriptedModel"]:
        """Listen on a free port of this machine; `host` 0.0.0.0 for callers in containers."""
        model = cls()
        app = web.Application()
        app.router.add_post("/v1/chat/completions", model._complete)
        app.router.add_get("/v1/models", model._models)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, host, 0)
        await site.start()
        model.port = runner.addresses[0][1]
        try:
            yield model
        finally:
            await runner.cleanup()

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "scripted", "object": "model"}]})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        call = Call(await request.json(), dict(request.headers))
        if self.answer is not None:
            return await self._play(request, call, await self.answer(call))
        self.requests.append(call)
        self._news.set()
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return _error(Reply("Incorrect API key provided: " + request.headers.get("Authorization", ""), status=401))
        reply = next((rule.next() for rule in self.rules if rule.pattern.search(call.prompt)), None)
        if reply is None:
            return _error(Reply(f"no rule for this prompt: {call.last[:200]}", status=404))
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        try:
            return await self._play(request, call, reply)
        except (asyncio.CancelledError, ConnectionResetError):
            self.aborted += 1
            self._news.set()
            raise
        finally:
            self._running -= 1

    async def _play(self, request: web.Request, call: Call, reply: Reply) -> web.StreamResponse:
        await asyncio.sleep(3600 if reply.fault == "hang" else reply.delay_s)
        if reply.fault == "reset":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if reply.status != 200:
            return _error(reply)
        if reply.fault == "garbage":
            return web.Response(body=b"data: <html>Bad gateway\n\n" * 3, content_type="text/plain")
        if call.body.get("stream"):
            return await _stream(request, call, reply)
        if reply.fault == "half":
            return web.Response(body=_whole(call, reply, 1)[:-20], content_type="application/json")
        n = 1 if self.one_at_a_time else call.body.get("n", 1)
        return web.Response(body=_whole(call, reply, n), content_type="application/json")


def _error(reply: Reply) -> web.Response:
    fault = {"message": reply.text or f"error {reply.status}", "type": "scripted", "code": reply.code}
    return web.json_response({"error": fault}, status=reply.status, headers=reply.headers)


def _whole(call: Call, reply: Reply, n: int) -> bytes:
    texts = [reply.texts[i % len(reply.texts)] if reply.texts else reply.text for i in range(n)]
    choices = [
        {
            "index": i,
            "message": {
                "role": "assistant",
                "content": None if reply.refusal else text,
                "refusal": reply.refusal,
                **({"tool_calls": _calls(reply)} if reply.tools else {}),
            },
            "finish_reason": reply.finish_reason,
            "logprobs": _logprobs(call, text),
        }
        for i, text in enumerate(texts)
    ]
    content = {"id": "scripted", "object": "chat.completion", "model": call.body["model"], "choices": choices}
    usage = {} if reply.fault == "no-usage" else {"usage": _usage(call, reply, texts)}
    return json.dumps(content | usage).encode()


def _calls(reply: Reply) -> list[dict[str, Any]]:
    return [
        {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments) in enumerate(reply.tools)
    ]


def _pieces_of_calls(reply: Reply) -> Iterator[dict[str, Any]]:
    """Each call in two pieces, the arguments cut in the middle."""
    for n, whole in enumerate(_calls(reply)):
        arguments = whole["function"]["arguments"]
        half = len(arguments) // 2
        yield {**whole, "index": n, "function": {**whole["function"], "arguments": arguments[:half]}}
        yield {"index": n, "function": {"arguments": arguments[half:]}}


def _logprobs(call: Call, text: str) -> dict[str, Any] | None:
    """Each word is a token, and likely; the alternatives are not."""
    if not call.body.get("logprobs"):
        return None
    more = [{"token": f"other{n}", "logprob": -5.0 - n} for n in range(1, call.body["top_logprobs"])]
    likely = [{"token": word, "logprob": -0.1} for word in re.findall(r"\S+\s*", text)]
    return {"content": [{**one, "top_logprobs": [one, *more]} for one in likely]}


def _usage(call: Call, reply: Reply, texts: Sequence[str]) -> dict[str, Any]:
    prompt = len(call.prompt.split()) if reply.prompt_tokens is None else reply.prompt_tokens
    completion = sum(len(text.split()) for text in texts)
    completion = completion if reply.completion_tokens is None else reply.completion_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
    }


async def _stream(request: web.Request, call: Call, reply: Reply) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b": ping\n\n")
    for chunk in _chunks(call, reply):
        raw = f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode()
        await response.write(raw[: len(raw) // 2])  # pieces of the wire are not the lines of the stream
        await response.write(raw[len(raw) // 2 :])
        await asyncio.sleep(reply.pause_s)
    if reply.fault == "half":
        assert request.transport is not None
        request.transport.close()
        return response
    if reply.fault is None:
        await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


def _chunks(call: Call, reply: Reply) -> Iterator[dict[str, Any]]:
    pieces = re.findall(r"\S+\s*", reply.text) or [reply.text]
    if reply.fault in ("half", "error-event"):
        pieces = pieces[: max(1, len(pieces) // 2)]
    for piece in pieces:
        delta = {"index": 0, "delta": {"content": piece}, "finish_reason": None, "logprobs": _logprobs(call, piece)}
        yield {"choices": [delta]}
    for part in _pieces_of_calls(reply):
        yield {"choices": [{"index": 0, "delta": {"tool_calls": [part]}, "finish_reason": None}]}
    if reply.fault == "half":
        return
    if reply.fault == "error-event":
        yield {"error": {"message": "the engine died", "type": "server_error"}}
        return
    yield {"choices": [{"index": 0, "delta": {}, "finish_reason": reply.finish_reason}]}
    if reply.fault != "no-usage" and call.body.get("stream_options", {}).get("include_usage"):
        yield {"choices": [], "usage": _usage(call, reply, [reply.text])}
