"""Rerank: the handler, the embedded scorer, and a real cross-encoder that is small enough to be made here."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from contracts.item import Evidence, Input, Item, Passage
from contracts.steps import Rerank
from services.rerank.adapters.cross_encoder import CrossEncoder
from services.rerank.app import open_scorer
from services.rerank.config import RerankSettings
from services.rerank.domain import EvidenceScorer, from_evidence
from services.rerank.handlers import rerank
from shared.settings import SettingsError

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "fee", "visit", "limit", "plan"]


def passage(chunk: str, text: str = "", **evidence: float) -> Passage:
    return Passage(chunk=chunk, document="d", title="", text=text, evidence=Evidence(**evidence))


def item(*passages: Passage, question: str = "fee") -> Item:
    return Item(n=0, input=Input(question=question), passages=list(passages))


def test_evidence_adds_up_as_documented() -> None:
    assert from_evidence(Evidence(words=1.0, vectors=2.0, segment=4.0, tokens=8.0, cosine=100.0)) == pytest.approx(5.8)


async def test_the_best_come_first_with_their_new_score() -> None:
    found = item(passage("low", words=-1.0), passage("high", words=1.0), passage("middle", segment=1.0))
    (reranked,) = await rerank([found], Rerank(top=2), EvidenceScorer())
    assert [(p.chunk, p.score) for p in reranked.passages] == [("high", 1.0), ("middle", 0.5)]


async def test_equal_scores_keep_their_order() -> None:
    (reranked,) = await rerank([item(*(passage(name) for name in "abc"))], Rerank(), EvidenceScorer())
    assert [p.chunk for p in reranked.passages] == ["a", "b", "c"]


async def test_items_keep_length_and_order_and_may_be_without_passages() -> None:
    items = [item(), item(passage("x"))]
    reranked = await rerank(items, Rerank(), EvidenceScorer())
    assert [len(one.passages) for one in reranked] == [0, 1]


@pytest.fixture(params=[True, False], ids=["with type ids", "without type ids"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Scores a pair by the sum of its tokens' weights: 1 for "fee", 10 for "limit", 100 for a token of the passage."""
    weights = np.zeros((len(WORDS), 1), dtype=np.float32)
    weights[WORDS.index("fee")], weights[WORDS.index("limit")] = 1, 10
    _write_model(tmp_path, weights, type_ids=request.param)
    _write_tokenizer(tmp_path)
    return tmp_path


async def test_the_cross_encoder_reads_question_and_passage_together(model: Path) -> None:
    scorer = CrossEncoder(model)
    texts = ["limit fee", "visit", "limit limit visit visit visit", "plan fee"]
    scores = await scorer.score("fee", [passage(str(n), text) for n, text in enumerate(texts)])
    await scorer.close()
    shift = 100 if "token_type_ids" in scorer.inputs else 0
    lengths = [len(text.split()) + 1 for text in texts]  # SEP belongs to the passage
    expected = [12, 1, 21, 2]
    assert scores == [value + shift * length for value, length in zip(expected, lengths, strict=True)]


async def test_more_passages_than_a_batch_come_back_in_their_order(model: Path) -> None:
    scorer = CrossEncoder(model)
    many = [passage(str(n), " ".join(["limit"] * (n % 5) + ["visit"] * (n % 3))) for n in range(23)]
    together = await scorer.score("fee", many)
    alone = [(await scorer.score("fee", [one]))[0] for one in many]
    await scorer.close()
    assert together == alone
    assert len(set(together)) > 3


async def test_a_passage_is_cut_where_there_is_no_room(model: Path) -> None:
    scorer = CrossEncoder(model, max_tokens=8)
    (score,) = await scorer.score("fee", [passage("x", "visit " * 20 + "limit")])
    await scorer.close()
    assert score % 100 == 1  # the limit is beyond


async def test_settings_choose_the_scorer(model: Path) -> None:
    async with open_scorer(RerankSettings(scorer="cross-encoder", model=model)) as scorer:
        (reranked,) = await rerank([item(passage("a", "visit"), passage("b", "limit"))], Rerank(top=1), scorer)
    assert [p.chunk for p in reranked.passages] == ["b"]
    async with open_scorer(RerankSettings()) as scorer:
        assert isinstance(scorer, EvidenceScorer)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (RerankSettings(scorer="cross-encoder"), "PENSTOCK_RERANK_MODEL: expected a folder .* got nothing"),
        (RerankSettings(scorer="cross-encoder", model=Path("/nowhere")), "PENSTOCK_RERANK_MODEL: .* no /nowhere"),
    ],
)
async def test_a_missing_model_is_told_by_the_setting(settings: RerankSettings, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        async with open_scorer(settings):
            pass


def test_a_model_with_other_inputs_is_told(tmp_path: Path) -> None:
    _write_model(tmp_path, np.zeros((len(WORDS), 1), dtype=np.float32), type_ids=False, ids="pixels")
    _write_tokenizer(tmp_path)
    with pytest.raises(SettingsError, match="wants the input 'pixels'"):
        CrossEncoder(tmp_path)


def _write_model(
    folder: Path,
    weights: "np.ndarray[tuple[int, int], np.dtype[np.float32]]",
    *,
    type_ids: bool,
    ids: str = "input_ids",
) -> None:
    """Embedding look-up, times the mask, summed over the tokens; type ids count 100 each."""
    names = [ids, "attention_mask", *(["token_type_ids"] if type_ids else [])]
    nodes = [
        helper.make_node("Gather", ["weights", ids], ["looked_up"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["looked_up", "mask3"], ["counted"]),
        helper.make_node("ReduceSum", ["counted", "tokens"], ["summed" if type_ids else "logits"], keepdims=0),
    ]
    if type_ids:
        nodes += [
            helper.make_node("Cast", ["token_type_ids"], ["types"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["types", "tokens"], ["second"], keepdims=1),
            helper.make_node("Mul", ["second", "hundred"], ["shift"]),
            helper.make_node("Add", ["summed", "shift"], ["logits"]),
        ]
    constants: Sequence[TensorProto] = [
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(np.array([2]), "last"),
        numpy_helper.from_array(np.array([1]), "tokens"),
        numpy_helper.from_array(np.array(100, dtype=np.float32), "hundred"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["pairs", "length"]) for name in names],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["pairs", 1])],
        constants,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, folder / "model.onnx")


def _write_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
