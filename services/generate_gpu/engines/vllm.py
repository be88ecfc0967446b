"""vLLM in this process: continuous batching, prefix cache, guided output; see `vllm_host.py` for its life.

All calls share one engine, which batches them token by token; a call that is cancelled is aborted inside it.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from contracts.item import Completion, Tool, ToolCall
from services.generate_gpu.domain.completion import (
    BROKEN_OFF,
    CompletionRequest,
    OnBegin,
    OnDelta,
    costing,
    refuses,
    unheard,
)
from services.generate_gpu.domain.tools import as_openai
from services.generate_gpu.engines.vllm_heard import Heard, Sample
from services.generate_gpu.engines.vllm_host import Host
from services.generate_gpu.engines.vllm_tools import Reader, forced, forced_reader, reader, untouched
from shared.errors import ItemError, Retryable
from shared.models import Model

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams
    from vllm.tokenizers import TokenizerLike


class Vllm:
    """One model of a host: the plain one, or one of its adapters."""

    paid = True  # not in money, but a redelivered shard shall not compute it twice
    instant = False

    def __init__(self, model: Model, host: Host) -> None:
        self._model = model
        self._host = host
        self._adapter = host.adapters.get(model.name, "")

    async def complete(
        self, request: CompletionRequest, on_delta: OnDelta | None = None, on_begin: OnBegin = unheard
    ) -> list[Completion]:
        """See `Engine`; streams where `on_delta` is given. What a model writes that may call tools is not known to be
        text before its end: then all of it comes at once."""
        mixed = bool(_offered(request))
        async with self._watched(request):
            read = await self._reader(request)
            heard = await self._heard(request, _wordless(on_delta) if mixed else on_delta, on_begin)
            with costing(heard.usage):
                found = self._completions(heard, read)
        if on_delta is not None and mixed:
            await on_delta(found[0].text)
        return found

    async def warm(self, request: CompletionRequest) -> None:
        """See `Keeping`. One token is made: an engine makes none without having computed the prompt."""
        async with self._watched(request):
            await self._heard(replace(request, max_tokens=1), None)

    @asynccontextmanager
    async def _watched(self, request: CompletionRequest) -> AsyncIterator[None]:
        """Around a call: no longer than the model may take, and vLLM's errors as ours."""
        from vllm.exceptions import GracefulHTTPError, VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        try:
            async with asyncio.timeout(self._model.timeout.total):
                yield
        except TimeoutError:
            raise Retryable(f"{self._name} did not answer in time") from None
        except GracefulHTTPError as error:  # it has as many calls, or tokens of prompts, as it may
            raise Retryable(f"the engine of {self._name} takes no more calls now: {error}") from None
        except EngineDeadError:
            raise Retryable(f"the engine of {self._name} has died; it is started again") from None
        except EngineGenerateError as error:
            raise Retryable(f"the engine of {self._name} failed: {error.__cause__ or error}") from None
        except (VLLMClientError, ValueError) as error:
            guided = request.schema is not None or request.forces_call
            raise ItemError(
                "malformed" if guided else "upstream", f"{self._name} refuses the request: {error}"
            ) from None

    async def start(self) -> None:
        """Open the engine now, rather than for the first who asks."""
        await self._host.start()

    def ready(self) -> bool:
        """See `Keeping`."""
        return self._host.ready()

    async def tokens(self, request: CompletionRequest) -> list[int]:
        """The prompt's tokens."""
        return await self._prompt(request)

    async def tokenizer(self) -> "TokenizerLike":
        return (await self._host.engine()).get_tokenizer()

    async def forget(self) -> None:
        """Empty the prefix cache; nothing may be running."""
        await (await self._host.engine()).reset_prefix_cache()

    async def close(self) -> None:
        await self._host.close()

    @property
    def _name(self) -> str:
        return f"the model {self._model.name!r}"

    async def _heard(self, request: CompletionRequest, on_delta: OnDelta | None, on_begin: OnBegin = unheard) -> Heard:
        prompt = await self._prompt(request)
        room = self._model.context - len(prompt)
        if room < 1:
            reason = f"the prompt has {len(prompt)} tokens, {self._name} takes {self._model.context} with the answer"
            raise ItemError("too_large", reason)
        parameters = _parameters(request, min(request.max_tokens, room), stream=on_delta is not None)
        heard = Heard(prompt=len(prompt))
        async with aclosing(await self._outputs(prompt, parameters, request)) as outputs:
            on_begin()
            async for output in self._host.pulse.waited(outputs):
                heard.add(output)
                if on_delta is not None:
                    first = output.outputs[0]
                    await on_delta(first.text, len(first.token_ids))
        if any(sample.ending in BROKEN_OFF for sample in heard.samples.values()):
            with costing(heard.usage):
                raise Retryable(f"{self._name} broke off its answer")
        return heard

    async def _prompt(self, request: CompletionRequest) -> list[int]:
        return await self._host.prompt(request.messages, as_openai(_offered(request)))

    async def _outputs(
        self, prompt: list[int], parameters: "SamplingParams", request: CompletionRequest
    ) -> "AsyncGenerator[RequestOutput, None]":
        lora = await self._host.adapter(self._model)
        engine = await self._host.engine()
        given: Any = {"prompt_token_ids": prompt, "cache_salt": f"{request.salt}{self._adapter}" or None}
        outputs: AsyncGenerator[RequestOutput, None] = engine.generate(
            given, parameters, uuid.uuid4().hex, lora_request=lora, priority=1 if request.batch else 0
        )
        return outputs

    def _completions(self, heard: Heard, read: Reader) -> list[Completion]:
        samples = [sample for _, sample in sorted(heard.samples.items())]
        told = [sample for sample in samples if sample.text.strip()]
        if not told:
            raise ItemError("upstream", f"{self._name} gave no text in {heard.usage.completion_tokens} tokens")
        found = [self._completion(sample, *read(sample.text)) for sample in told]
        return [replace(found[0], usage=heard.usage, timing=heard.timing), *found[1:]]

    async def _reader(self, request: CompletionRequest) -> Reader:
        if request.forces_call:
            return forced_reader(request.tool_choice)
        offered = _offered(request)
        return reader(await self.tokenizer(), self._model.tools, offered) if offered else untouched

    def _completion(self, sample: Sample, text: str, calls: list[ToolCall]) -> Completion:
        return Completion(
            text=text,
            model=self._model.name,
            finish_reason="stop" if sample.ending == "stop" else "length",  # also where vLLM ends a repetition
            mode="refused" if refuses(text) else "generated",
            tool_calls=calls,
            logprobs=sample.logprobs,
        )


def _wordless(on_delta: OnDelta | None) -> OnDelta | None:
    """Tells that the model is at work, and its tokens, but not what it writes."""
    if on_delta is None:
        return None

    async def told(text: str, tokens: int = 0, /) -> None:
        await on_delta("", tokens)

    return told


def _parameters(request: CompletionRequest, max_tokens: int, *, stream: bool) -> "SamplingParams":
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    whole = not stream and request.n == 1
    schema = forced(request.tools, request.tool_choice) if request.forces_call else request.schema
    guided = None if schema is None else StructuredOutputsParams(json=schema)
    return SamplingParams(
        n=request.n,
        temperature=request.temperature,
        max_tokens=max_tokens,
        stop=request.stop or None,
        seed=request.seed,
        logprobs=request.logprobs or None,
        skip_special_tokens=not request.tools,  # some models begin a call with one
        structured_outputs=guided,
        output_kind=RequestOutputKind.FINAL_ONLY if whole else RequestOutputKind.DELTA,
    )


def _offered(request: CompletionRequest) -> list[Tool]:
    """The tools that the model is shown: it calls none that it does not know."""
    return [] if request.tool_choice == "none" else request.tools
