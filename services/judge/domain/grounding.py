"""Whether every sentence of an answer is supported by a passage, and by which sentence of it.

What a passage has word for word is supported; of an extractive answer nothing else is. Any other sentence needs up to
three sentences of a passage (of those it cites, where it cites) that hold at least `ENOUGH` of its content words and
all of its numbers, codes and names, and that do not deny what it affirms. This is a rule, not a model: it lets no
changed number pass, and it turns down a paraphrase that shares few words with its source.
"""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from contracts.item import Answer, Quote, Verdict
from services.judge.domain.claims import Claim
from services.judge.domain.sources import Source
from services.judge.domain.statements import Statement, is_refusal, statements

ENOUGH = 0.65
SHORT = 3  # words: here a single one that is missing changes what is said
SENTENCES = 3  # of a passage, that may support one sentence of the answer together


class Support(Struct, frozen=True):
    """A sentence of the answer and what it rests on."""

    sentence: str
    quotes: list[Quote]
    supported: bool


def check(answer: Answer, found: Sequence[Source]) -> tuple[Answer, Verdict]:
    """The answer with the quotes that it rests on, and the verdict; a refusal is grounded."""
    if is_refusal(answer):
        refused = replace(answer, mode="refused", finish_reason="refused", quotes=[])
        return refused, Verdict(check="grounding", passed=True, score=1.0)
    given = [quote for quote in answer.quotes if _is_verbatim(quote, found)]
    if _is_all_quotes(answer, given):
        return replace(answer, quotes=given), Verdict(check="grounding", passed=True, score=1.0)
    supports = [_support(statement, given, found, answer.mode) for statement in statements(answer)]
    quotes = dict.fromkeys([*given, *(quote for support in supports for quote in support.quotes)])
    findings = [support.sentence for support in supports if not support.supported]
    score = 1 - len(findings) / max(1, len(supports))
    verdict = Verdict(check="grounding", passed=not findings, score=round(score, 4), findings=findings)
    return replace(answer, quotes=list(quotes)), verdict


def _is_verbatim(quote: Quote, found: Sequence[Source]) -> bool:
    claim = Claim(quote.text)
    return any(source.holds(claim) for source in found if quote.chunk in ("", source.passage.chunk))


def _is_all_quotes(answer: Answer, given: list[Quote]) -> bool:
    """Whether the text is nothing but its quotes. Joined, they may look like other sentences than they are."""
    rest = Claim(answer.text).plain
    for quote in given:
        rest = rest.replace(Claim(quote.text).plain, " ", 1)
    return bool(given) and answer.data is None and not rest.strip()


def _support(statement: Statement, given: list[Quote], found: Sequence[Source], mode: str) -> Support:
    if statement.claims_nothing:
        return Support(statement.text, [], supported=True)
    if any(number > len(found) for number in statement.cited):
        return Support(statement.text, [], supported=False)
    claim = Claim(statement.bare)
    quote = next((quote for quote in given if claim.plain in Claim(quote.text).plain), None)
    if quote:
        return Support(statement.text, [quote], supported=True)
    among = [found[number - 1] for number in statement.cited] or list(found)
    source = next((source for source in among if source.holds(claim)), None)
    if source:
        return Support(statement.text, [source.quote(statement.bare)], supported=True)
    quotes = [] if mode in ("extractive", "degraded") else _evidence(claim, statement, among)
    return Support(statement.text, quotes, supported=bool(quotes))


def _evidence(claim: Claim, statement: Statement, among: list[Source]) -> list[Quote]:
    """Sentences that carry the claim: of one source, or else of several together; none where it is not carried."""
    is_quoted = all(any(source.holds(Claim(quoted)) for source in among) for quoted in statement.quoted)
    if not is_quoted or _is_contradicted(claim, among):
        return []
    singles = (_carried(claim, [source]) for source in among)
    return next((quotes for quotes in singles if quotes), []) or _carried(claim, among)


def _is_contradicted(claim: Claim, among: list[Source]) -> bool:
    """Whether the sentences that share most words with the claim all deny what it affirms, or the other way round."""
    near = [(len(claim.words & sentence.words), sentence) for source in among for sentence in source.claims]
    most = max((overlap for overlap, _ in near), default=0)
    return not any(claim.agrees(sentence) for overlap, sentence in near if overlap == most)


def _carried(claim: Claim, among: list[Source]) -> list[Quote]:
    """The sentence that shares most words with the claim, then those that add words it still lacks."""
    picked: list[tuple[Source, Claim]] = []
    held: frozenset[str] = frozenset()
    pairs = [(source, sentence) for source in among for sentence in source.claims]
    while pairs and len(picked) < SENTENCES and not _is_held(claim, held):
        missing = claim.words - held
        best = max(pairs, key=lambda pair: (len(missing & pair[1].words), claim.agrees(pair[1])))
        if not missing & best[1].words:
            break
        picked.append(best)
        pairs.remove(best)
        held |= best[1].words | best[0].head.words
    if not picked or not _is_held(claim, held) or not claim.agrees(picked[0][1]):
        return []
    if _mixes_measures(claim, [sentence for _, sentence in picked]):
        return []
    return [quote for source, sentence in picked for quote in source.quotes(sentence)]


def _mixes_measures(claim: Claim, sentences: list[Claim]) -> bool:
    """Whether a number of the claim is that of something else: 90 visits, from "40 visits" and "90 days"."""
    return any(
        any(unit in sentence.words for sentence in sentences)
        and not any({number, unit} <= sentence.words for sentence in sentences)
        for number, unit in claim.measures
    )


def _is_held(claim: Claim, held: frozenset[str]) -> bool:
    """Whether these words carry the claim: all of its facts and enough of the rest; all of it, where it is short."""
    missing = len(claim.words - held)
    allowed = int((1 - ENOUGH) * len(claim.words)) if len(claim.words) > SHORT else 0
    return missing <= allowed and claim.facts <= held
