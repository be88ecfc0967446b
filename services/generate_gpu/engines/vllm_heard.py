"""What vLLM says of one request, output by output, gathered."""

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from contracts.item import Timing, TokenLogprob, Usage

if TYPE_CHECKING:
    from vllm import CompletionOutput, RequestOutput
    from vllm.v1.metrics.stats import RequestStateStats


@dataclass
class Sample:
    text: str = ""
    tokens: int = 0
    logprobs: list[TokenLogprob] = field(default_factory=list)
    ending: str = ""


@dataclass
class Heard:
    """What the engine has said about one request so far."""

    prompt: int
    cached: int = 0
    samples: dict[int, Sample] = field(default_factory=dict)
    timing: Timing = field(default_factory=Timing)
    _first_at: float = 0.0

    @property
    def usage(self) -> Usage:
        return Usage(self.prompt, self.cached, sum(sample.tokens for sample in self.samples.values()), calls=1)

    def add(self, output: "RequestOutput") -> None:
        """Of several samples the first to begin says what the cache held: the others find what it computed."""
        found = output.num_cached_tokens or 0
        self.cached = min(self.cached, found) if self.samples else found
        self._first_at = self._first_at or time.time()
        for part in output.outputs:
            sample = self.samples.setdefault(part.index, Sample())
            sample.text += part.text
            sample.tokens += len(part.token_ids)
            sample.logprobs += _logprobs(part)
            sample.ending = part.finish_reason or sample.ending
        if output.metrics is not None:
            self.timing = _timing(output.metrics, self._first_at)


def _logprobs(part: "CompletionOutput") -> list[TokenLogprob]:
    """Of each token of this piece, where they were asked for; the token itself is among those that vLLM gives."""
    if part.logprobs is None:
        return []
    found = []
    for token, given in zip(part.token_ids, part.logprobs, strict=True):
        top = sorted(given.values(), key=lambda one: one.rank)
        likeliest = {one.decoded_token or "": round(one.logprob, 6) for one in top}
        found.append(TokenLogprob(given[token].decoded_token or "", round(given[token].logprob, 6), likeliest))
    return found


def _timing(metrics: "RequestStateStats", first_at: float) -> Timing:
    """The engine's own clock says how long each phase took; `first_at` is ours where it does not say."""
    measured = metrics.first_token_latency
    return Timing(
        first_at=round(metrics.arrival_time + measured if measured else first_at, 4),
        queue_ms=_ms(metrics.queued_ts, metrics.scheduled_ts),
        prefill_ms=_ms(metrics.scheduled_ts, metrics.first_token_ts),
        decode_ms=_ms(metrics.first_token_ts, metrics.last_token_ts),
    )


def _ms(start: float, end: float) -> float:
    return round(max(0.0, end - start) * 1000, 3)
