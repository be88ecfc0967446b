"""Any OpenAI-compatible endpoint, spoken to with httpx.

Why not the openai library: docs/decisions/. The form of requests and answers is in `openai_wire.py`, what an error
means in `openai_errors.py`.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import cache
from typing import TypeVar

import httpx
import msgspec
from msgspec.structs import replace

from contracts.item import Completion, TokenLogprob, Usage
from services.generate_gpu.domain.completion import (
    BROKEN_OFF,
    CompletionRequest,
    OnBegin,
    OnDelta,
    costing,
    refuses,
    unheard,
)
from services.generate_gpu.domain.limits import prompt_tokens
from services.generate_gpu.engines.openai_errors import Endpoint
from services.generate_gpu.engines.openai_wire import (
    Call,
    Chunk,
    Finish,
    Logprobs,
    Reply,
    Text,
    Tokens,
    body,
    finish,
    joined,
    lines,
)
from shared.errors import ItemError, Retryable, Unusable
from shared.models import Model
from shared.text import count_tokens

T = TypeVar("T")

_LARGEST_REPLY = 16 << 20  # bytes
_DONE = b"[DONE]"
_SENT = "http11.send_request_body.complete"  # httpcore's name for the moment from which an endpoint may be at work


@cache
def _tls() -> ssl.SSLContext:
    """Reading the certificates takes a tenth of a second: once is enough."""
    return httpx.create_ssl_context()


def _said(message: Text, logprobs: Logprobs | None) -> Completion:
    """What a whole message says; the model's name comes later."""
    tokens = logprobs.tokens if logprobs is not None else []
    return Completion(message.text, "", tool_calls=message.calls, logprobs=tokens)


class OpenAI:
    """One model behind one endpoint. The key is read from the environment and leaves in the request's header only."""

    paid = True
    instant = False

    def __init__(self, model: Model, connections: int = 64, environment: Mapping[str, str] = os.environ) -> None:
        self._model = model
        key = environment.get(model.api_key_env, "") if model.api_key_env else ""
        self._lacks_key = bool(model.api_key_env) and not key
        self._endpoint = Endpoint(model, key)
        self._free = asyncio.Semaphore(connections)  # waiting for a connection is not the endpoint's time
        self._batches = asyncio.Semaphore(max(1, connections * 3 // 4))  # nor do people wait for one behind batches
        self._client = httpx.AsyncClient(
            verify=_tls(),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(model.timeout.read, connect=model.timeout.connect),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def complete(
        self, request: CompletionRequest, on_delta: OnDelta | None = None, on_begin: OnBegin = unheard
    ) -> list[Completion]:
        """See `Engine`; streams where `on_delta` is given."""
        if self._lacks_key:
            raise Unusable(f"{self._endpoint.name}: the variable {self._model.api_key_env} is not set")
        try:
            async with self._connection(request), asyncio.timeout(self._model.timeout.total):
                if on_delta is None:
                    return await self._whole(request, on_begin)
                return await self._streamed(request, on_delta, on_begin)
        except (TimeoutError, httpx.TimeoutException):
            raise Retryable(f"{self._endpoint.name} did not answer in time") from None
        except httpx.HTTPError as error:
            raise Retryable(f"{self._endpoint.name}: the connection failed ({type(error).__name__})") from None

    @asynccontextmanager
    async def _connection(self, request: CompletionRequest) -> AsyncIterator[None]:
        async with self._batches if request.batch else nullcontext(), self._free:
            yield

    async def _whole(self, request: CompletionRequest, on_begin: OnBegin) -> list[Completion]:
        async with self._posted(request, on_begin, stream=False) as response:
            reply = self._decoded(b"".join([piece async for piece in self._pieces(response)]), Reply)
        if not reply.choices:
            raise Retryable(f"{self._endpoint.name} sent no choices")
        told = [one for one in reply.choices if one.message.text.strip() or one.message.calls] or reply.choices[:1]
        usage = self._usage([choice.message.text for choice in told[: request.n]], request, reply.usage)
        with costing(usage):
            self._check_whole(choice.finish_reason for choice in told)
            said = [(_said(choice.message, choice.logprobs), choice.finish) for choice in told[: request.n]]
            found = [self._completion(one, ending, request) for one, ending in said]
        return [replace(found[0], usage=usage), *found[1:]]

    async def _streamed(self, request: CompletionRequest, on_delta: OnDelta, on_begin: OnBegin) -> list[Completion]:
        text: list[str] = []
        calls: list[Call] = []
        logprobs: list[TokenLogprob] = []
        ending: Finish | None = None
        reasons: list[str | None] = []
        usage: Tokens | None = None
        async with self._posted(request, on_begin, stream=True) as response:
            async for event in lines(self._pieces(response)):
                if event == _DONE:
                    break
                chunk = self._decoded(event, Chunk)
                if chunk.error is not None:
                    raise Retryable(f"{self._endpoint.name} broke off: {self._endpoint.shown(chunk.error.message)}")
                usage = chunk.usage or usage
                for choice in chunk.choices[:1]:
                    reasons.append(choice.finish_reason)
                    ending = finish(choice.finish_reason, choice.delta.refusal) or ending
                    text.append(choice.delta.text)
                    calls += choice.delta.tool_calls or ()
                    logprobs += choice.logprobs.tokens if choice.logprobs is not None else ()
                    if choice.delta.at_work:
                        await on_delta(choice.delta.text)
        if ending is None:
            raise Retryable(f"{self._endpoint.name} sent half an answer")
        said = Completion("".join(text), self._model.name, tool_calls=joined(calls), logprobs=logprobs)
        cost = self._usage([said.text], request, usage)
        with costing(cost):
            self._check_whole(reasons)
            return [replace(self._completion(said, ending, request), usage=cost)]

    @asynccontextmanager
    async def _posted(
        self, request: CompletionRequest, on_begin: OnBegin, *, stream: bool
    ) -> AsyncIterator[httpx.Response]:
        async def trace(event: str, _: Mapping[str, object]) -> None:
            if event == _SENT:
                on_begin()

        url = f"{self._model.base_url}/chat/completions"
        async with self._client.stream(
            "POST", url, json=body(request, self._model, stream=stream), extensions={"trace": trace}
        ) as response:
            if response.status_code != httpx.codes.OK:
                content = b"".join([piece async for piece in self._pieces(response)])
                raise self._endpoint.error(response.status_code, response.headers, content)
            yield response

    async def _pieces(self, response: httpx.Response) -> AsyncIterator[bytes]:
        size = 0
        async for piece in response.aiter_bytes():
            size += len(piece)
            if size > _LARGEST_REPLY:
                raise Retryable(f"{self._endpoint.name} sent more than {_LARGEST_REPLY >> 20} MB")
            yield piece

    def _check_whole(self, reasons: Iterable[str | None]) -> None:
        if not BROKEN_OFF.isdisjoint(reasons):
            raise Retryable(f"{self._endpoint.name} broke off its answer")

    def _decoded(self, content: bytes, form: type[T]) -> T:
        try:
            return msgspec.json.decode(content, type=form)
        except msgspec.MsgspecError as error:
            raise Retryable(f"{self._endpoint.name} sent something else than a completion: {error}") from None

    def _completion(self, said: Completion, ending: Finish, request: CompletionRequest) -> Completion:
        """Raises where there is neither text nor a call: an empty answer is a failure."""
        nothing = not said.text.strip() and not said.tool_calls
        if nothing and ending == "length":
            raise ItemError("upstream", f"{self._endpoint.name} used all {request.max_tokens} tokens before any text")
        if nothing and ending == "stop":
            raise Retryable(f"{self._endpoint.name} sent an empty answer")
        completion = replace(said, model=self._model.name, finish_reason=ending)
        return replace(completion, mode="refused") if ending == "refused" or refuses(said.text) else completion

    def _usage(self, texts: Sequence[str], request: CompletionRequest, used: Tokens | None) -> Usage:
        """Of one call; counted by ourselves where the endpoint says nothing."""
        if used is None:
            return Usage(prompt_tokens(request, self._model), 0, sum(count_tokens(list(texts))), calls=1)
        return Usage(used.prompt_tokens, used.cached_tokens, used.completion_tokens, calls=1)
