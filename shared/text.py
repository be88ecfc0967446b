"""Text helpers that more than one service needs: token counts, sentences."""

from collections.abc import Sequence
from functools import cache

from tokenizers import Tokenizer

from shared.encoder import MODEL_DIR


@cache
def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(MODEL_DIR / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def count_tokens(texts: Sequence[str]) -> list[int]:
    """Word pieces of each text, without special tokens."""
    return [len(e.ids) for e in _tokenizer().encode_batch_fast(list(texts), add_special_tokens=False)]
