"""The client of the payment API, and the two ways in which a charge fails."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

import msgspec

import kstream


class Order(msgspec.Struct, frozen=True):
    number: int
    customer: str
    amount: int  # cents


class Answer(msgspec.Struct, frozen=True):
    charge: str  # the API's name for it


class Unavailable(kstream.Retryable):
    """The API did not answer, or said that it cannot now. Whether the order was charged is not known."""


class Declined(kstream.NonRetryable):
    """The API will not charge this order, however often it is asked."""


class Client:
    """A connection to the API, for one thread at a time. It connects when it is used, and anew after a failure.

    Args:
        url: where the API is: http://HOST:PORT.
        timeout: how long an answer may take (seconds).
    """

    def __init__(self, url: str, timeout: float = 5.0) -> None:
        place = urlsplit(url)
        self._connection = HTTPConnection(place.hostname or "", place.port, timeout=timeout)

    def charge(self, order: Order) -> str:
        """Charges an order and returns the charge's name. The API goes by the order's number: asked again, it charges
        nothing and answers the same.

        Raises:
            Unavailable: it may go well another time.
            Declined: it will not.
        """
        try:
            self._connection.request("POST", "/charges", msgspec.json.encode(order))
            answer = self._connection.getresponse()
            body = answer.read()
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise Unavailable(f"order {order.number}: {type(error).__name__}: {error}") from error
        if answer.status == 200:
            return msgspec.json.decode(body, type=Answer).charge
        said = f"order {order.number}: {answer.status} {body.decode(errors='replace')}"
        raise Unavailable(said) if answer.status >= 500 else Declined(said)

    def close(self) -> None:
        self._connection.close()
