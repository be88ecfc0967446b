"""generate, with endpoints that count as engines which keep prefixes: its process is sent work by name."""

from services.generate_gpu.app import app
from services.generate_gpu.domain.completion import CompletionRequest, Keeping
from services.generate_gpu.engines.openai import OpenAI
from shared.service import main


async def warm(self: OpenAI, request: CompletionRequest) -> None:
    """Nothing to compute."""


def ready(self: OpenAI) -> bool:
    """There is nothing that could die."""
    return True


OpenAI.warm, OpenAI.ready = warm, ready  # type: ignore[attr-defined]  # `Keeping` looks for them
assert issubclass(OpenAI, Keeping)

if __name__ == "__main__":
    main(app)
