"""Turns of a conversation, and which items become one."""

from msgspec import Struct

from contracts.item import Item, Message, Usage
from contracts.subjects import TOKEN
from shared.errors import ItemError


class Session(Struct, frozen=True):
    """Whose conversation it is. Two tenants may use the same name and never meet."""

    tenant: str
    name: str


class Turn(Struct, frozen=True, omit_defaults=True):
    """A question and its answer. `answer` is empty where the documents did not say; the question, where the answer was
    a call of tools: it comes again, with what they brought."""

    question: str
    answer: str = ""
    usage: Usage = Usage()  # of the item that it was
    between: list[Message] = []  # calls of tools that the question led to, and what they brought


def session_of(tenant: str, name: str) -> Session:
    """Raises ItemError (malformed) for a name that cannot be part of a key."""
    if not TOKEN.fullmatch(name):
        shown = name if len(name) <= 70 else f"{name[:70]}…"
        raise ItemError("malformed", f"options.session: expected 1 to 64 letters, digits, - and _, got {shown!r}")
    return Session(tenant, name)


def turn_of(item: Item) -> Turn | None:
    """What to remember of an item; None where there is nothing.

    A refusal is no knowledge, nor is a text that stands in for an answer, so its text is left out. Its question stays:
    the next one may lean on it ("and B?").
    """
    question = item.input.question.strip()
    if not item.alive or not question or item.answer is None:
        return None
    if item.answer.tool_calls:
        return Turn("", usage=item.usage)
    said = "" if item.answer.mode == "refused" or item.answer.escalate else item.answer.text
    between = [Message(turn.role, turn.content, turn.tool_calls, turn.tool_call_id) for turn in item.input.turns]
    return Turn(question, said, item.usage, between)


def messages(turns: list[Turn]) -> list[Message]:
    """The turns as a model reads them, oldest first."""
    found = []
    for turn in turns:
        if turn.question:
            found.append(Message("user", turn.question))
        found += turn.between
        if turn.answer:
            found.append(Message("assistant", turn.answer))
    return found
