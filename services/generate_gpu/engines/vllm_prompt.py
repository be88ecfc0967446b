"""Messages to tokens in a model's own chat template, where nobody can write a turn of somebody else's.

Tokenizers read `<|system|>` inside a question as the control token that begins a system message. So every such string
in what people, documents or tools have said is taken out before the template is rendered, and put back as the
tokens of its characters. A prompt without any is tokenized in one piece, as always.
"""

import re
import secrets
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from contracts.item import Message
from services.generate_gpu.domain.tools import as_turns
from shared.errors import ItemError

if TYPE_CHECKING:
    from vllm.tokenizers import TokenizerLike


def prompt_tokens(
    tokenizer: "TokenizerLike", messages: Sequence[Message], tools: Sequence[dict[str, object]] = ()
) -> list[int]:
    """The prompt up to where the model's answer begins. Raises ItemError where the template does not take it."""
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, str):
        if tools and "tools" not in template:
            raise ItemError("malformed", "options.tools: the chat template of the model takes no tools")
        if any(message.tool_calls for message in messages) and "tool_calls" not in template:
            raise ItemError("malformed", "turns: the chat template of the model takes no calls of tools")
    mask = Mask(_control(tokenizer))
    turns: Any = mask.hidden(as_turns(messages, arguments_as_text=False))
    how: Any = {"add_generation_prompt": True, **({"tools": mask.hidden(list(tools))} if tools else {})}
    try:
        if not mask.used:
            return list(tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False, **how))
        text = str(tokenizer.apply_chat_template(turns, tokenize=False, **how))
    except Exception as error:  # noqa: BLE001 - a template is a program of its own, and may fail in any way
        raise ItemError("malformed", f"the chat template of the model refuses the messages: {error}") from None
    parts = [part for piece, literal in mask.pieces(text) for part in (piece, *_halves(literal)) if part]
    return [token for part in parts for token in tokenizer.encode(part, add_special_tokens=False)]


class Mask:
    """Stands in for control tokens while a template is rendered."""

    def __init__(self, control: re.Pattern[str]) -> None:
        self.used: list[str] = []
        self._control = control
        self._word = f"x{secrets.token_hex(12)}"  # nobody can write it beforehand

    def hidden(self, said: Any) -> Any:
        """The same, with a mask in place of each control token in any of its strings."""
        match said:
            case str():
                return self._control.sub(self._masked, said)
            case list():
                return [self.hidden(one) for one in said]
            case dict():
                return {self.hidden(name): self.hidden(one) for name, one in said.items()}
            case _:
                return said

    def pieces(self, text: str) -> list[tuple[str, str]]:
        """The rendered text in pieces, each with the string that was masked behind it; the last has none.

        A template may leave a mask out, or say it twice.
        """
        parts = re.split(rf"{self._word}n(\d+)x", text)
        masked = [self.used[int(number)] for number in parts[1::2]]
        return list(zip(parts[::2], [*masked, ""], strict=True))

    def _masked(self, found: re.Match[str]) -> str:
        self.used.append(found[0])
        return f"{self._word}n{len(self.used) - 1}x"


@lru_cache(8)
def _control(tokenizer: "TokenizerLike") -> re.Pattern[str]:
    """All strings that the tokenizer reads as one token wherever they stand, runs of blanks aside."""
    added = {text for text in {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens} if text.strip()}
    longest_first = sorted(added, key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _halves(literal: str) -> tuple[str, str]:
    """Neither half is the control token any more, so a tokenizer reads both as text."""
    middle = len(literal) // 2
    return literal[:middle], literal[middle:]
