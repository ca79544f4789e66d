"""The records that all cases share."""

from __future__ import annotations

import msgspec


class Bid(msgspec.Struct, gc=False):
    """The input: `{"auction": int, "price": int, "bidder": str}`, of which the jobs want two fields."""

    auction: int
    price: int


class Total(msgspec.Struct, gc=False):
    """The state and the output."""

    auction: int
    count: int
    sum: int
