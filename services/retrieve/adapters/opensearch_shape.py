"""What an index in OpenSearch looks like: its analyser, its BM25, its fields, and the template that gives them to every
index of ours, also to those that the server makes when it rolls over."""

from services.retrieve.domain.ports import Level
from services.retrieve.domain.scoring import B, K

Json = dict[str, object]

FIELDS = {Level.PASSAGE: "passage", Level.DOCUMENT: "whole"}
LONGEST_WORD = 255  # longer ones are cut: Lucene refuses terms beyond 32,766 bytes
ANALYSER = "penstock"
_LEAST_PRIORITY = 200

# The terms of `domain/terms.py`: runs of letters, digits and underscores in lower case, without Lucene's English stop
# words, stemmed by Snowball's English stemmer. The server's own `english` analyser stems by Porter's first algorithm.
# Lucene has an older edition of Snowball: of the 31,061 words of three test sets 59 get another stem.
_ANALYSIS: Json = {
    "tokenizer": {"words": {"type": "pattern", "pattern": r"[^\p{L}\p{N}_]+"}},
    "filter": {
        "cut": {"type": "truncate", "length": LONGEST_WORD},
        "stop_words": {"type": "stop", "stopwords": "_english_"},
        "stems": {"type": "snowball", "language": "English"},
    },
    "analyzer": {
        ANALYSER: {"type": "custom", "tokenizer": "words", "filter": ["cut", "lowercase", "stop_words", "stems"]}
    },
}
_KEYWORD: Json = {"type": "keyword"}
_TEXT: Json = {"type": "text", "analyzer": ANALYSER, "similarity": "bm25", "index_options": "freqs"}


def template(name: str) -> Json:
    """The index template of all indexes of this name. Two templates whose patterns overlap need different priorities:
    the longer name, being the more special one, has the higher."""
    return {
        "index_patterns": [f"{name}-*-*"],
        "priority": _LEAST_PRIORITY + len(name),
        "template": {
            "settings": {
                "index": {"auto_expand_replicas": "0-1"},
                "analysis": _ANALYSIS,
                "similarity": {"bm25": {"type": "BM25", "k1": K, "b": B}},
            },
            "mappings": {
                "dynamic": "strict",
                "_routing": {"required": True},
                "_source": {"excludes": list(FIELDS.values())},  # passages are in the log of documents, once is enough
                "properties": {
                    "tenant": _KEYWORD,
                    "document": _KEYWORD,
                    "facets": {"type": "keyword", "ignore_above": 8000},  # a longer one would fail the whole document
                    "edition": _KEYWORD,
                    **dict.fromkeys(FIELDS.values(), _TEXT),
                },
            },
        },
    }
