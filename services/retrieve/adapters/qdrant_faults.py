"""What goes wrong with a Qdrant server, in one line that names it and says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from json import JSONDecodeError

from pydantic import ValidationError
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from shared.errors import Poison, Retryable
from shared.settings import SettingsError

KEY = "PENSTOCK_RETRIEVE_QDRANT_KEY"
URL = "PENSTOCK_RETRIEVE_QDRANT_URL"
OLDEST = (1, 11)  # payload indexes with `is_tenant`


class Faults:
    """Turns errors of the client into ours: Retryable where the server does not answer, is too busy or turns the key
    down; Poison where it refuses a request for good."""

    def __init__(self, address: str, name: str, timeout_s: float) -> None:
        self.address = address
        self._name = name
        self._timeout_s = timeout_s

    @contextmanager
    def named(self) -> Iterator[None]:
        try:
            yield
        except ResourceExhaustedResponse as error:
            raise Retryable(f"Qdrant at {self.address} ({URL}) has too much to do", after=error.retry_after_s) from None
        except ResponseHandlingException as error:
            why = str(error).strip().partition("\n")[0] or f"in {self._timeout_s:g} s"
            raise Retryable(f"Qdrant at {self.address} does not answer ({why}); its address is {URL}") from None
        except UnexpectedResponse as error:
            raise self._refused(error) from None
        except (JSONDecodeError, ValidationError):
            raise Retryable(f"what answers at {self.address} is no Qdrant; its address is {URL}") from None
        except QdrantException as error:
            raise Retryable(f"Qdrant at {self.address} ({URL}): {error}") from None

    def check(self, version: str) -> None:
        """Refuse a server that is too old. Raises SettingsError."""
        with suppress(ValueError):  # a build of its own numbering
            if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
                expected = ".".join(map(str, OLDEST))
                raise SettingsError(
                    f"{URL}: Qdrant at {self.address} is version {version}; expected {expected} or newer"
                )

    def _refused(self, error: UnexpectedResponse) -> Retryable | Poison:
        status = error.status_code or 0
        if status in (401, 403):
            return Retryable(f"Qdrant at {self.address} turns down the key ({status}); it is {KEY}")
        why = " ".join(error.content.decode(errors="replace").split())[:200]
        said = f"Qdrant at {self.address} ({URL}) answers {status} for collection {self._name!r}: {why}"
        return Retryable(said) if status in (404, 408, 429) or status >= 500 else Poison(said)
