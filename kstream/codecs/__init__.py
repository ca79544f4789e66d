"""How keys and values become bytes: `resolve` finds the codec of a declared type, columns are coded at C speed.

base.py: the protocol and what the built-in codecs share; resolving.py: from a type to its codec;
columns.py: whole columns, with the index of what failed; checking.py: whether what is written comes back as it was;
copying.py: deep copies by a round trip; bounding.py: how deep the JSON of an input record may be; shapes.py: what the
bytes of a type look like; windowed.py, spans.py, timers.py: keys of windows and of timers, by way of composite.py;
evolution.py: whether a type reads what another one wrote.
"""

from kstream.codecs.base import (
    ATOMS,
    BuiltIn,
    Codec,
    ColumnError,
    holds_none,
    is_codec,
    is_nullable,
    name_of,
    sure_classes,
)
from kstream.codecs.bounding import JsonBounds
from kstream.codecs.checking import SAMPLE, difference
from kstream.codecs.columns import (
    check_column,
    check_entries,
    decode_column,
    decode_keys,
    decode_value,
    encode_column,
    encode_keys,
    encode_value,
)
from kstream.codecs.copying import copier
from kstream.codecs.resolving import resolve
from kstream.codecs.spans import WindowedSpan, span_codec
from kstream.codecs.windowed import Windowed, as_in_topics, windowed_codec

__all__ = [
    "ATOMS",
    "SAMPLE",
    "BuiltIn",
    "Codec",
    "ColumnError",
    "JsonBounds",
    "Windowed",
    "WindowedSpan",
    "as_in_topics",
    "check_column",
    "check_entries",
    "copier",
    "decode_column",
    "decode_keys",
    "decode_value",
    "difference",
    "encode_column",
    "encode_keys",
    "encode_value",
    "holds_none",
    "is_codec",
    "is_nullable",
    "name_of",
    "resolve",
    "span_codec",
    "sure_classes",
    "windowed_codec",
]
