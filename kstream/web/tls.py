"""TLS of the web server: the certificate and its key, checked before anything is served."""

from __future__ import annotations

import ssl

from kstream.config import Settings
from kstream.errors import ConfigError


def tls_of(settings: Settings) -> ssl.SSLContext | None:
    """What connections are made with; None to serve without TLS. The files are read once: a renewed certificate needs a
    restart.

    Raises:
        ConfigError: a file cannot be read or is none of PEM, the key has a password or is another certificate's.
    """
    certificate, key = settings.web_tls_certificate, settings.web_tls_key
    if certificate is None:
        if key is not None:
            raise ConfigError("web_tls_key: there is no web_tls_certificate that it could belong to; set both")
        return None
    for name, path in (("web_tls_certificate", certificate), ("web_tls_key", key)):
        if path is not None:
            _check_readable(name, path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")  # else OpenSSL would ask on the terminal
    except (OSError, ValueError) as error:
        raise ConfigError(_why_not(certificate, key, error)) from None
    return context


def trusting(ca: str | None) -> ssl.SSLContext | None:
    """What other instances are asked with over https: those of the file `ca` are trusted. None: the system's.

    Raises:
        ConfigError: the file cannot be read, or holds no authorities.
    """
    if ca is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise ConfigError(f"web_tls_ca: {ca} cannot be used: {error.strerror or error}") from None


def _check_readable(name: str, path: str) -> None:
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        raise ConfigError(f"{name}: {path} cannot be read: {error.strerror}") from None


def _why_not(certificate: str, key: str | None, error: Exception) -> str:
    where = certificate if key is None else key
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return f"web_tls_key: the key in {where} is not that of the certificate in {certificate}"
    return (
        f"web_tls_certificate: {certificate} with the key in {where} cannot be used: both must be PEM, the key without "
        f"a password ({getattr(error, 'reason', None) or type(error).__name__})"
    )
