"""The extractive reader, with the real encoder: what it quotes, what it leaves out, when it refuses."""

import pytest

from contracts.item import Completion, Evidence, Passage
from services.generate_gpu.domain.reader import deltas, read, read_all
from services.generate_gpu.domain.refusal import REFUSAL
from shared.encoder import Encoder


def passage(
    document: str, ordinal: int, text: str, *, title: str = "", clause: str = "", section: str = "", page: int = 0
) -> Passage:
    return Passage(
        chunk=f"{document}#{ordinal}",
        document=document,
        title=title or document,
        text=text,
        section=section,
        clause=clause,
        page=page,
        score=-0.1 * ordinal,
        evidence=Evidence(cosine=0.4),
    )


HMO = "HMO-483 Benefits 2025"
PHYSIOTHERAPY = passage(
    "hmo-483-benefits-2025",
    0,
    "4.2 Outpatient physiotherapy is covered for up to 30 visits in a plan year. After surgery of the anterior "
    "cruciate ligament (ACL) the limit rises to 45 visits. However, visits beyond the 20th require prior "
    "authorization.",
    title=HMO,
    clause="4.2",
    section="4 Therapies",
    page=3,
)
SPEECH = passage(
    "hmo-483-benefits-2025",
    1,
    "4.3 Speech therapy is not covered, unless it follows a stroke.",
    title=HMO,
    clause="4.3",
    section="4 Therapies",
    page=3,
)
EXCLUDED = passage(
    "hmo-483-benefits-2025",
    2,
    "4.4 The following services are excluded:\n\n- cosmetic surgery\n\n- experimental treatments\n\n- dental implants",
    title=HMO,
    clause="4.4",
    section="4 Therapies",
    page=4,
)
COSTS = passage(
    "hmo-483-benefits-2025",
    3,
    "5 Costs\n\nService: Primary care visit; In network: $20 copay; Out of network: not covered\n\n"
    "Service: Specialist visit; In network: $45 copay; Out of network: not covered\n\n"
    "Service: Emergency room; In network: $250 copay; Out of network: $250 copay",
    title=HMO,
    clause="5",
    section="5 Costs",
    page=5,
)
OTHER_PLAN = passage(
    "ppo-210",
    0,
    "4.2 Outpatient physiotherapy is covered for up to 60 visits in a plan year.",
    title="PPO-210 Benefits 2025",
    clause="4.2",
)
PRICES = passage(
    "prices",
    0,
    "sku: PX-100; product: Pressure valve DN50; price: 129.00; warranty: 24 months\n\n"
    "sku: PX-101; product: Pressure valve DN80; price: 189.00; warranty: 24 months\n\n"
    "sku: KL-7; product: Sealing kit; price: 18.90; warranty: 12 months",
    title="Price list",
)
STAFF = passage(
    "handbook",
    0,
    "The data protection officer is Maria Lindqvist. She is reached at privacy@example.com. Security incidents must be "
    "reported within one hour. A doctor's note is needed from the fourth day of sickness on.",
    title="Employee handbook",
)
LIBRARY = [PHYSIOTHERAPY, SPEECH, EXCLUDED, COSTS, STAFF]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder()


def is_verbatim(completion: Completion, passages: list[Passage]) -> bool:
    texts = {p.chunk: " ".join(p.text.split()) for p in passages}
    return all(" ".join(quote.text.split()) in texts[quote.chunk] for quote in completion.quotes)


def test_answers_with_the_sentences_of_the_clause_and_its_exception(encoder: Encoder) -> None:
    completion = read("Does plan HMO-483 cover physiotherapy after ACL surgery?", [*LIBRARY, OTHER_PLAN], encoder)

    assert completion.mode == "extractive"
    assert "limit rises to 45 visits" in completion.text
    assert "However, visits beyond the 20th require prior authorization." in completion.text
    assert "60 visits" not in completion.text
    assert {(q.title, q.clause, q.page) for q in completion.quotes} == {(HMO, "4.2", 3)}
    assert is_verbatim(completion, LIBRARY)


def test_takes_the_document_that_the_question_names(encoder: Encoder) -> None:
    completion = read("How many physiotherapy visits does PPO-210 cover?", [PHYSIOTHERAPY, OTHER_PLAN], encoder)

    assert {quote.document for quote in completion.quotes} == {"ppo-210"}


@pytest.mark.parametrize(
    ("question", "row"),
    [
        ("What is the copay for a specialist visit in network?", "Specialist visit"),
        ("How much does an emergency room visit cost out of network?", "Emergency room"),
        ("What does the PX-101 cost?", "sku: PX-101"),
        ("Which product has a warranty of 12 months?", "Sealing kit"),
    ],
)
def test_quotes_the_one_row_that_is_asked_for(question: str, row: str, encoder: Encoder) -> None:
    completion = read(question, [COSTS, PRICES], encoder)

    assert [row in quote.text for quote in completion.quotes] == [True]


def test_a_list_item_comes_with_the_line_that_opens_the_list(encoder: Encoder) -> None:
    completion = read("Is cosmetic surgery covered by HMO-483?", LIBRARY, encoder)

    assert completion.text == "4.4 The following services are excluded:\n- cosmetic surgery"


def test_a_question_for_the_list_gets_all_of_it(encoder: Encoder) -> None:
    completion = read("What is excluded in plan HMO-483?", LIBRARY, encoder)

    assert "cosmetic surgery\n- experimental treatments\n- dental implants" in completion.text
    assert is_verbatim(completion, LIBRARY)


def test_a_clause_can_be_asked_for_by_its_number(encoder: Encoder) -> None:
    assert read("What does clause 4.3 say?", LIBRARY, encoder).text == SPEECH.text


def test_one_sentence_is_enough_where_one_answers(encoder: Encoder) -> None:
    completion = read("Who is the data protection officer?", LIBRARY, encoder)

    assert completion.text == "The data protection officer is Maria Lindqvist."


def test_what_two_sources_say_alike_is_said_once(encoder: Encoder) -> None:
    copy = passage("intranet", 0, "Our data protection officer is Maria Lindqvist.")

    completion = read("Who is the data protection officer?", [STAFF, copy], encoder)

    assert completion.text.count("Lindqvist") == 1


@pytest.mark.parametrize(
    "question",
    [
        "Who won the 2014 World Cup?",  # off topic
        "Does plan PPO-900 cover physiotherapy?",  # another plan
        "What does the PX-999 cost?",  # another product
        "Is acupuncture covered by HMO-483?",  # on topic, but the asked thing is not there
        "Does HMO-483 pay for bariatric surgery?",
        "Who is the chief financial officer?",
        "Is veterinary care covered by HMO-483?",
        "Does the doctor's note apply in Japan?",  # a name that nobody mentions
        "???",
    ],
)
def test_refuses_what_the_documents_do_not_say(question: str, encoder: Encoder) -> None:
    completion = read(question, [*LIBRARY, PRICES], encoder)

    assert (completion.text, completion.mode, completion.finish_reason) == (REFUSAL, "refused", "refused")
    assert completion.quotes == []


def test_a_short_form_and_a_misspelt_word_are_understood(encoder: Encoder) -> None:
    for question in ("How many physio visits after surgery?", "Is physiotheraphy covered after surgery?"):
        assert "physiotherapy is covered" in read(question, LIBRARY, encoder).text


@pytest.mark.parametrize("passages", [[], [passage("empty", 0, "  \n ")]])
def test_refuses_without_anything_to_read(passages: list[Passage], encoder: Encoder) -> None:
    assert read("Is physiotherapy covered?", passages, encoder).mode == "refused"


def test_many_questions_in_one_go_get_the_answers_of_their_own_passages(encoder: Encoder) -> None:
    asked = [
        ("What does the PX-101 cost?", [PRICES]),
        ("Who won the 2014 World Cup?", [STAFF]),
        ("Is speech therapy covered?", [PHYSIOTHERAPY, SPEECH]),
    ]

    price, refused, speech = read_all(asked, encoder)

    assert "189.00" in price.text
    assert refused.mode == "refused"
    assert speech.text.startswith("4.3 Speech therapy is not covered")


def test_counts_what_was_read_and_what_was_said(encoder: Encoder) -> None:
    usage = read("Who is the data protection officer?", [STAFF], encoder).usage

    assert usage.calls == 1
    assert usage.prompt_tokens > usage.completion_tokens > 0


@pytest.mark.parametrize(
    "question", ["Does HMO-483 cover physiotherapy after ACL surgery?", "What is excluded?", "Who won the World Cup?"]
)
def test_the_pieces_for_streaming_make_the_text(question: str, encoder: Encoder) -> None:
    completion = read(question, LIBRARY, encoder)

    pieces = list(deltas(completion))

    assert "".join(pieces) == completion.text
    assert len(pieces) == max(1, len(completion.quotes))
