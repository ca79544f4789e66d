"""Where spans go: an OpenTelemetry tracer provider, set up by the standard environment variables.

OpenTelemetry is imported only when traces are wanted (`pip install 'kstream[traces]'`). See docs/traces.md.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from kstream.errors import ConfigError, UsageError
from kstream.observe.throttle import Throttle

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

log = logging.getLogger(__name__)

FLUSH_SECONDS: Final = 5.0
"""How long a worker that ends waits for its last spans to be taken."""

_PROTOCOLS: Final[Mapping[str, str]] = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_EXPORT_LOGGERS: Final = ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.sdk._shared_internal")


def provider_for(app: str, instance: str, worker: str, sample: float) -> TracerProvider | None:
    """The tracer provider of a worker's process; None when nothing is to be traced.

    One that the service itself has set (`opentelemetry.trace.set_tracer_provider`, before the worker starts) is taken
    as it is. Otherwise, with a `sample` above 0, one is made and set, so that what the service's libraries trace goes
    the same way.

    Raises:
        UsageError: OpenTelemetry is not installed.
        ConfigError: OTEL_TRACES_EXPORTER or OTEL_EXPORTER_OTLP_PROTOCOL name nothing that is installed.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    own = _set_by_the_service()
    if own is not None or not sample:
        return own
    try:
        from opentelemetry import trace

        made = make_provider(app, instance, worker)
    except ImportError as error:
        raise UsageError(
            f"trace_sample is {sample:g}, but OpenTelemetry is not installed ({error}): pip install 'kstream[traces]'"
        ) from None
    trace.set_tracer_provider(made)
    return made


def _set_by_the_service() -> TracerProvider | None:
    if "opentelemetry.sdk.trace" not in sys.modules:  # else nobody can have set one; and it is not imported for this
        return None
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    found = trace.get_tracer_provider()
    return found if isinstance(found, TracerProvider) else None


def make_provider(app: str, instance: str, worker: str) -> TracerProvider:
    """A provider that exports in batches, from a thread of its own. Raises ImportError, ConfigError."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    ours = {"service.name": app, "service.instance.id": f"{instance}-{worker}"}
    said = OTELResourceDetector().detect().attributes
    resource = Resource.create({name: value for name, value in ours.items() if name not in said})
    provider = TracerProvider(resource=resource)
    for name in os.environ.get("OTEL_TRACES_EXPORTER", "otlp").split(","):
        if name.strip() not in ("none", ""):
            provider.add_span_processor(BatchSpanProcessor(_exporter(name.strip())))
    for name in _EXPORT_LOGGERS:  # a collector that is down must not fill the log
        logger = logging.getLogger(name)
        if not any(isinstance(one, Throttle) for one in logger.filters):
            logger.addFilter(Throttle())
    return provider


def _exporter(name: str) -> SpanExporter:
    """The exporter of that name, as OpenTelemetry's packages announce theirs."""
    from importlib.metadata import entry_points

    wanted = name
    if name == "otlp":
        protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        wanted = _PROTOCOLS.get(protocol or "http/protobuf", f"otlp with protocol {protocol}")
    found = list(entry_points(group="opentelemetry_traces_exporter", name=wanted))
    if not found:
        known = ", ".join(sorted({one.name for one in entry_points(group="opentelemetry_traces_exporter")}))
        raise ConfigError(
            f"OTEL_TRACES_EXPORTER: no exporter {wanted!r} is installed (there are: none, otlp, {known}): "
            "install its package or set another"
        )
    exporter: SpanExporter = found[0].load()()
    return exporter


def flush(provider: TracerProvider) -> None:
    """Hands over what was not exported yet, for `FLUSH_SECONDS` at most.

    The SDK's own time-out is not kept: with a collector that is down it waits 10 s a batch.
    """
    flushing = threading.Thread(target=provider.force_flush, name="traces-flush", daemon=True)
    flushing.start()
    flushing.join(FLUSH_SECONDS)
    if flushing.is_alive():
        log.warning(
            "the last spans could not be exported within %.0f s: is the OpenTelemetry collector up?", FLUSH_SECONDS
        )
