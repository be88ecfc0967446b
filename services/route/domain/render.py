"""Rendering: an item and a prompt become messages that fit the model's window."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import msgspec
from jinja2 import Template, UndefinedError
from jinja2.exceptions import SecurityError
from msgspec.structs import replace

from contracts.item import Item, Message, Part, Tool
from contracts.job import Options
from contracts.steps import AnyStep, Generate
from services.route.domain.prompts import Prompt
from services.route.domain.turns import as_messages
from services.route.domain.window import Window, fitted
from shared.errors import ItemError
from shared.outcome import TRUNCATED
from shared.text import count_tokens

RENDERED = "rendered="


def render(item: Item, prompt: Prompt, options: Options, window: int) -> Item:
    """The item with `messages` and `prompt` set.

    `window` is the model's context length in tokens. What does not fit is left out, least important first (see
    `window.py`); `passages` then holds those that the model sees, and `truncated(item)` counts what it does not.
    Raises ItemError: `malformed` where the item lacks a variable, `too_large` where even the least does not fit, and
    the failure of the parts where the prompt is about parts and none succeeded.
    """
    if item.input.turns and not options.tools:
        raise ItemError("malformed", f"items[{item.n}].turns: expected options.tools, too: what the model could call")
    ready = _with_draft(item, prompt)
    _refuse_dead_parts(ready)
    room = Window(
        tokens=window - options.max_tokens - _shown(options.tools),
        compose=lambda shorter: _compose(shorter, prompt, options),
    )
    seen = fitted(ready, room)
    notes = [*item.notes, f"{RENDERED}{prompt.ref}"]
    if seen.left_out:
        notes.append(f"{TRUNCATED}{seen.left_out}")
    return replace(ready, messages=seen.messages, prompt=prompt.ref, passages=seen.item.passages, notes=notes)


def _shown(tools: Sequence[Tool]) -> int:
    """The tokens of tools in a prompt, about."""
    return sum(_counted(msgspec.json.encode(tool).decode()) for tool in tools)


@lru_cache(32)
def _counted(tool: str) -> int:
    """All items of a job show the same tools."""
    return count_tokens([tool])[0]


@dataclass(frozen=True)
class Target:
    """Where a prompt goes: the model, the replica that holds its beginning (if one does), and what that is called."""

    model: str
    replica: str = ""
    prefix: str = ""


def aimed(steps: Sequence[AnyStep], prompt: Prompt, target: Target) -> list[AnyStep]:
    """The steps with the target, and the prompt's schema where the job brought none, in the next Generate."""
    result = list(steps)
    for i, step in enumerate(result):
        if isinstance(step, Generate):
            result[i] = replace(
                step,
                model=target.model,
                replica=target.replica,
                prefix=target.prefix if target.replica else "",
                schema=step.schema or prompt.schema,
            )
            break
    return result


def times_rendered(item: Item, prompt: str) -> int:
    """How often a prompt of this name (its version does not matter) has been rendered for the item."""
    return len(_rendered(item, prompt))


def last_rendered(item: Item, prompt: str) -> str:
    """Name and version as it was last rendered; empty where it was not."""
    return next(reversed(_rendered(item, prompt)), "")


def _rendered(item: Item, prompt: str) -> list[str]:
    start = f"{RENDERED}{prompt.partition('@')[0]}@"
    return [note.removeprefix(RENDERED) for note in item.notes if note.startswith(start)]


def _with_draft(item: Item, prompt: Prompt) -> Item:
    if prompt.about.keep_draft and item.answer is not None:
        return replace(item, draft=item.answer.text)
    return item


def _refuse_dead_parts(item: Item) -> None:
    first = next((part.failure for part in item.parts if part.failure is not None), None)
    if first is not None and not any(part.failure is None for part in item.parts):
        raise ItemError(first.code, f"all {len(item.parts)} parts failed, the first: {first.reason}")


def beginning(item: Item, prompt: Prompt, options: Options) -> tuple[str, str]:
    """What all questions of a session begin with: the system message, and the material that comes before its turns."""
    known = given(item, prompt, options)
    return _filled(prompt.system, prompt, known), _filled(prompt.material, prompt, known)


def _compose(item: Item, prompt: Prompt, options: Options) -> list[Message]:
    """Most stable first: system and policy, material, the session's history, then passages and question."""
    system, material = beginning(item, prompt, options)
    user = Message("user", _filled(prompt.user, prompt, given(item, prompt, options)))
    turns = as_messages(item.input.turns)
    return [Message("system", system), *_behind(material, [*item.history, user]), *turns]


def _behind(material: str, turns: list[Message]) -> list[Message]:
    """The turns with the material at the beginning of the first one, so that roles alternate as templates want it."""
    if not material:
        return turns
    if turns[0].role != "user":
        return [Message("user", material), *turns]
    return [replace(turns[0], content=f"{material}\n\n{turns[0].content}"), *turns[1:]]


def _filled(template: Template | None, prompt: Prompt, known: dict[str, object]) -> str:
    try:
        return template.render(known).strip() if template is not None else ""
    except UndefinedError as error:
        raise ItemError("malformed", f"variables: the prompt {prompt.ref} needs one more: {error.message}") from None
    except SecurityError as error:
        raise ItemError("internal", f"the prompt {prompt.ref} may not do that: {error.message}") from None


def given(item: Item, prompt: Prompt, options: Options) -> dict[str, object]:
    """What templates see: the item's own variables, and the names of `prompts.GIVEN`, which win."""
    schema = options.schema or prompt.schema
    document = item.input.document
    return {
        **item.input.variables,
        "question": item.input.question,
        "query": item.query,
        "context": item.input.context,
        "document": "" if document is None else document.title or document.name,
        "passages": item.passages,
        "parts": telling(item.parts),
        "part": item.part,
        "draft": item.draft,
        "findings": [] if item.verdict is None else item.verdict.findings,
        "schema": "" if schema is None else json.dumps(schema, ensure_ascii=False),
        "history": item.history,
    }


def telling(parts: Sequence[Part]) -> list[Part]:
    """The parts that came back with something."""
    return [part for part in parts if part.failure is None and part.text.strip()]
