"""How keys and values become bytes: `resolve` finds the codec of a declared type, columns are coded at C speed.

base.py: the protocol and what the built-in codecs share; resolving.py: from a type to its codec;
columns.py: whole columns, with the index of what failed; copying.py: deep copies by a round trip.
"""

from kstream.codecs.base import Codec, ColumnError, is_nullable
from kstream.codecs.columns import (
    decode_column,
    decode_keys,
    decode_value,
    encode_column,
    encode_keys,
    encode_value,
)
from kstream.codecs.copying import ATOMS, copier
from kstream.codecs.resolving import resolve

__all__ = [
    "ATOMS",
    "Codec",
    "ColumnError",
    "copier",
    "decode_column",
    "decode_keys",
    "decode_value",
    "encode_column",
    "encode_keys",
    "encode_value",
    "is_nullable",
    "resolve",
]
