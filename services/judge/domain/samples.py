"""The samples of an item: what votes, and what is left out and why."""

import msgspec
from msgspec import Struct

from contracts.item import Failure, Item

Data = dict[str, object] | list[object]


class Sample(Struct, frozen=True):
    """One draw of the model. `data` is its JSON, where it has some; `failure` says why it does not count."""

    index: int
    text: str = ""
    data: Data | None = None
    failure: Failure | None = None


def samples(item: Item) -> list[Sample]:
    """The item's parts, else its completions."""
    if item.parts:
        return [_sample(part.index, part.text, part.data, part.failure) for part in item.parts]
    return [_sample(n, completion.text, completion.data, None) for n, completion in enumerate(item.completions)]


def _sample(index: int, text: str, data: Data | None, failure: Failure | None) -> Sample:
    found = data if data is not None or failure is not None else json_of(text)
    return Sample(index=index, text=text, data=found, failure=failure)


def json_of(text: str) -> Data | None:
    """The JSON object or array that a text is, in a code fence or not; None where it is anything else."""
    stripped = text.strip().removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    if stripped[:1] not in ("{", "["):
        return None
    try:
        decoded: Data = msgspec.json.decode(stripped, type=dict[str, object] | list[object])
    except msgspec.DecodeError:
        return None
    return decoded
