"""What an endpoint's error means for the item, or for the shard."""

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import httpx
import msgspec

from services.generate_gpu.engines.openai_wire import Fault
from shared.errors import ItemError, PenstockError, Retryable, Unusable
from shared.models import Model

_TOO_LONG = re.compile(
    r"context[ _](length|window)|prompt is too long|too many (input )?tokens|maximum.{0,40}tokens", re.I
)
_LATER = frozenset({408, 409, 425, 429})
_NO_MONEY = "insufficient_quota"  # a 429 that waiting does not heal
_LONGEST_WAIT_S = 3600.0
_SHOWN = 200


class Endpoint:
    """Names a model in errors, without its key."""

    def __init__(self, model: Model, key: str) -> None:
        self.name = f"the model {model.name!r}"
        self._model = model
        self._key = key

    def error(self, status: int, headers: Mapping[str, str], content: bytes) -> PenstockError:
        """The error to raise for a status other than 200.

        408, 409, 425, 429 and 5xx: Retryable, after what Retry-After says. Too long a prompt: ItemError `too_large`.
        All others: ItemError `upstream`; Unusable where every other item would get the same.
        """
        fault = fault_in(content)
        said = f"{self.name} answered {status}: {self.shown(fault.message)}"
        if fault.code == _NO_MONEY:
            return Unusable(said)
        if status in _LATER or status >= 500:
            return Retryable(said, after=retry_after(headers))
        if (
            status == 413
            or fault.code == "context_length_exceeded"
            or (status == 400 and _TOO_LONG.search(fault.message))
        ):
            return ItemError("too_large", said)
        if status in (401, 403):
            key = f"the key in {self._model.api_key_env}" if self._model.api_key_env else "a call without a key"
            return Unusable(f"{self.name} refuses {key} ({status})")
        if status == httpx.codes.NOT_FOUND:
            return Unusable(said)
        return ItemError("upstream", said)

    def shown(self, text: str) -> str:
        """Somebody else's text, short and without the key."""
        clean = text.replace(self._key, "…") if self._key else text
        return " ".join(clean.split())[:_SHOWN] or "no reason given"


class _Body(Fault, frozen=True):
    """An error's body; some endpoints put the fault inside `error`, some send it bare."""

    error: Fault | None = None


def fault_in(content: bytes) -> Fault:
    """The fault that an error's body describes; its text where it has another form."""
    try:
        body = msgspec.json.decode(content, type=_Body)
    except msgspec.MsgspecError:
        return Fault(message=re.sub(r"<[^>]*>", " ", content[:2000].decode("utf-8", errors="replace")))
    return body.error or body


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds to wait, from Retry-After in seconds or as a date; None where it is missing or senseless."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - (time.time() if now is None else now)
        except (TypeError, ValueError):
            return None
    return min(max(seconds, 0.0), _LONGEST_WAIT_S) if seconds == seconds else None
