"""The version of parsers and chunker together."""

VERSION = "1"
"""Goes into every revision: raise it when an unchanged document would come out in other chunks."""
