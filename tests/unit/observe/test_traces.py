"""The tracer provider by the standard environment variables, and spans that really arrive at a collector."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from kstream.errors import ConfigError, UsageError
from kstream.observe import traces
from support.collector import Collector


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    for name in ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


SERVICE = """
import kstream
from kstream.observe import traces
from kstream.testing import TestDriver

app = kstream.App("bids")
source = app.topic("in", key=str, value=int)
app.stream(source).map(lambda value: value + 1).to(app.topic("out", key=str, value=int))
provider = traces.provider_for(app.name, "host-1", "2", 1.0)
with TestDriver(app, partitions=1, tracer_provider=provider, trace_sample=1.0) as d:
    for value in range(3):
        d.send(source, value, key="k")
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env={**os.environ, **environment},
    )


def test_spans_arrive_at_a_real_collector(collector: Collector) -> None:
    """By OTLP over HTTP, flushed when the worker ends: the process exits at once behind it."""
    patient = "from kstream.observe import traces\ntraces.FLUSH_SECONDS = 60.0\n"  # on a busy machine 5 s may not do
    code = patient + SERVICE + "import os; os._exit(0)"
    done = run(
        code,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_EXPORTER_OTLP_TIMEOUT="60",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment=test",
    )
    assert done.returncode == 0, done.stderr
    found = collector.resources
    assert [(one["service.name"], one["service.instance.id"]) for one in found] == [("bids", "host-1-2")]
    assert found[0]["deployment.environment"] == "test"
    names = [span.name for span in collector.spans]
    assert sorted(names) == ["map in-map"] * 3 + ["process in"] * 3 + ["send out"] * 3
    assert collector.paths == {"/v1/traces"}


def test_the_environments_names_come_before_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    plain = traces.make_provider("bids", "host-1", "2").resource.attributes
    assert (plain["service.name"], plain["service.instance.id"]) == ("bids", "host-1-2")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-7,team=x")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "auction")
    named = traces.make_provider("bids", "host-1", "2").resource.attributes
    assert (named["service.name"], named["service.instance.id"], named["team"]) == ("auction", "pod-7", "x")


def test_a_collector_that_is_down_holds_nothing_up_and_does_not_flood_the_log() -> None:
    code = f"""
import logging, os, time
logging.basicConfig()
{SERVICE}
    began = time.monotonic()
took = time.monotonic() - began
assert took < traces.FLUSH_SECONDS + 20, took
os._exit(0)
"""
    began = time.monotonic()
    # with 90 s the SDK alone would try for half a minute and log at 0, 1, 3, 7 and 15 s
    done = run(code, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", OTEL_EXPORTER_OTLP_TIMEOUT="90")
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    one_in_ten_seconds = 1 + (time.monotonic() - began) // 10
    assert 1 <= len([line for line in lines if "127.0.0.1" in line]) <= one_in_ten_seconds, done.stderr
    assert lines[-1].endswith("the last spans could not be exported within 5 s: is the OpenTelemetry collector up?")


def test_spans_on_the_console() -> None:
    done = run(SERVICE, OTEL_TRACES_EXPORTER="console")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"name": "process in"') == 3


def test_a_provider_of_the_services_own_is_taken() -> None:
    code = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
mine = TracerProvider()
trace.set_tracer_provider(mine)
from kstream.observe import traces
assert traces.provider_for("a", "i", "0", 0.0) is mine
"""
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_ours_is_everybodys() -> None:
    """What the service's libraries trace goes the same way."""
    code = """
from kstream.observe import traces
ours = traces.provider_for("a", "i", "0", 0.5)
from opentelemetry import trace
assert trace.get_tracer_provider() is ours and ours is not None
"""
    done = run(code, OTEL_TRACES_EXPORTER="none")
    assert done.returncode == 0, done.stderr


def test_switched_off_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert traces.provider_for("a", "i", "0", 1.0) is None


def test_without_opentelemetry_the_error_says_what_to_install() -> None:
    code = """
import sys
sys.modules["opentelemetry"] = None
from kstream.errors import UsageError
from kstream.observe import traces
assert traces.provider_for("a", "i", "0", 0.0) is None
try:
    traces.provider_for("a", "i", "0", 0.01)
except UsageError as error:
    print(error)
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith("trace_sample is 0.01, but OpenTelemetry is not installed (")
    assert line.endswith("pip install 'kstream[traces]'")


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "'zipkin'"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "'otlp_proto_grpc'"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "pigeon", "'otlp with protocol pigeon'"),
    ],
)
def test_an_exporter_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, wanted: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        traces.make_provider("a", "i", "0")
    assert isinstance(caught.value, UsageError)
    assert str(caught.value).startswith(f"OTEL_TRACES_EXPORTER: no exporter {wanted} is installed")
    assert "\n" not in str(caught.value)
