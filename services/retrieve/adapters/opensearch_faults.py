"""What goes wrong with an OpenSearch server, in one line that names it and says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from opensearchpy.exceptions import ConnectionTimeout, OpenSearchException, TransportError

from shared.errors import Poison, Retryable
from shared.settings import SettingsError

URL = "PENSTOCK_RETRIEVE_OPENSEARCH_URL"
OLDEST = (2, 0)


class Faults:
    """Turns errors of the client into ours: Retryable where the server does not answer, is too busy or turns the
    credentials down; Poison where it refuses a request for good."""

    def __init__(self, address: str, name: str, timeout_s: float) -> None:
        self.address = address
        self._name = name
        self._timeout_s = timeout_s

    @contextmanager
    def named(self) -> Iterator[None]:
        try:
            yield
        except ConnectionTimeout:
            raise Retryable(
                f"OpenSearch at {self.address} does not answer within {self._timeout_s:g} s; its address is {URL}"
            ) from None
        except TransportError as error:
            if isinstance(error.status_code, int):
                raise self.refused(error.status_code, why(error)) from None
            raise Retryable(
                f"OpenSearch at {self.address} does not answer ({why(error)}); its address is {URL}"
            ) from None
        except OpenSearchException as error:  # for example an answer that is no JSON
            raise Retryable(f"OpenSearch at {self.address} ({URL}): {_line(str(error))}") from None

    def refused(self, status: int, reason: str) -> Retryable | Poison:
        """What a status of the server means."""
        if status in (401, 403):
            return Retryable(
                f"OpenSearch at {self.address} turns down user or password ({status}); they are part of {URL}"
            )
        if status == 429:
            return Retryable(f"OpenSearch at {self.address} ({URL}) has too much to do (429): {_line(reason)}")
        said = f"OpenSearch at {self.address} ({URL}) answers {status} for index {self._name!r}: {_line(reason)}"
        return Retryable(said) if status in (404, 408, 409) or status >= 500 else Poison(said)

    def check(self, info: Any) -> None:
        """Refuse a server that is another kind or too old. Raises SettingsError."""
        version = info.get("version") if isinstance(info, dict) else None
        number = str(version.get("number", "")) if isinstance(version, dict) else ""
        if not isinstance(version, dict) or version.get("distribution") != "opensearch":
            kind = f"version {number} of another engine" if number else "no OpenSearch"
            raise SettingsError(f"{URL}: what answers at {self.address} is {kind}; expected OpenSearch 2 or newer")
        with suppress(ValueError):
            if tuple(int(part) for part in number.split(".")[:2]) < OLDEST:
                raise SettingsError(f"{URL}: OpenSearch at {self.address} is version {number}; expected 2 or newer")


def why(error: TransportError) -> str:
    """The reason that the server gives, where it gives one."""
    with suppress(IndexError, KeyError, TypeError):
        info: Any = error.info
        return _line(str(info["error"]["reason"]))
    return _line(str(error.error))


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
