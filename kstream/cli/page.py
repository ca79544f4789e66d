"""Asking a running instance over HTTP, as its page does."""

from __future__ import annotations

import ssl
from http.client import HTTPException
from typing import Any, Final, TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import msgspec

from kstream.errors import UsageError

TIMEOUT: Final = 15.0

T = TypeVar("T")


class _Failure(msgspec.Struct):
    error: str


def ask(
    url: str,
    path: str,
    token: str | None,
    kind: type[T],
    also: tuple[int, ...] = (),
    *,
    ca: str | None = None,
    body: object = None,
) -> T:
    """What an instance answers at `url` + `path`.

    Args:
        ca: file of the authorities to trust, for https; None for the system's.
        body: what is sent as JSON, with a POST.
        also: statuses besides 200 whose answer is a `kind` too.

    Raises:
        UsageError: it cannot be reached, or refuses.
    """
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{url} is not the URL of an instance: write it like http://127.0.0.1:8010")
    url = url.rstrip("/") + path
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = None if body is None else msgspec.json.encode(body)
    try:
        try:
            with urlopen(Request(url, data, headers), timeout=TIMEOUT, context=_trust(url, ca)) as answer:
                data = answer.read()
        except HTTPError as error:
            data = error.read()
            if error.code not in also or not _is(data, kind):
                raise UsageError(_refused(url, error, data)) from None
        return msgspec.json.decode(data, type=kind)
    except (OSError, HTTPException) as error:
        if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
            raise UsageError(f"{url} has a certificate that is not trusted: set web_tls_ca ({error.reason})") from None  # type: ignore[union-attr]
        raise UsageError(f"{url} cannot be reached: {getattr(error, 'reason', error)}") from None
    except msgspec.MsgspecError as error:
        raise UsageError(f"{url} does not answer as an instance of this version: {error}") from None


def _trust(url: str, ca: str | None) -> ssl.SSLContext | None:
    if not url.startswith("https:"):
        return None
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise UsageError(f"web_tls_ca: {ca} cannot be used: {error.strerror or error}") from None


def _refused(url: str, error: HTTPError, data: bytes) -> str:
    if error.code == 401:
        return f"{url} wants another token: give --token, or set KSTREAM_WEB_TOKEN"
    if (error.code != 404 or "/state" in url) and _is(data, _Failure):
        return msgspec.json.decode(data, type=_Failure).error
    return f"{url} answers {error.code} {error.reason}: is it an instance's page?"


def _is(data: bytes, kind: Any) -> bool:
    try:
        msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError:
        return False
    return True
