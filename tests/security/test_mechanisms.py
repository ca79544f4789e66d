"""Each way to be let in: an app reads, writes and commits. With a wrong password or certificate it ends with a line."""

from __future__ import annotations

import base64
import json
import signal
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from kstream.errors import KafkaUnavailable
from kstream.runtime.kafka import KafkaClients
from kstream.runtime.kafka.bearer import bearer
from support.kafka import SECONDS, Reader, create, write
from support.running import Command, until
from support.secured import KEY_PASSWORD, LISTENERS, PASSWORD, USER, WAYS, Secured, settings_for

TARGET = "security.guarded_service:app"
QUICK = {
    "commit_interval": "50ms",
    "announce_interval": "0",
    "web": "false",
    "log_format": "json",
    "workers": "1",
    "on_stop": "leave",
}


class Runs:
    """Starts `kstream run` with settings in its environment. A password or a key's goes into a file."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        self.tokens = directory / "tokens"
        self._started: list[Command] = []

    def __call__(self, settings: dict[str, str], *arguments: str, **environment: str) -> Command:
        variables = {"KSTREAM_TEST_APP": self.name, "KSTREAM_TEST_TOKENS": str(self.tokens), **environment}
        folder = self.directory / f"run{len(self._started)}"
        for name, value in {**QUICK, "state_dir": str(self.directory / "state"), **settings}.items():
            variable = "KSTREAM_" + name.replace("kafka.", "kafka__", 1).replace(".", "_").upper()
            if "password" in name:
                folder.mkdir(exist_ok=True)
                (folder / name).write_text(value + "\n")
                variable, value = f"{variable}_FILE", str(folder / name)
            variables[variable] = value
        command = Command(folder, *(arguments or ("run", TARGET)), **variables)
        self._started.append(command)
        return command

    def end(self) -> None:
        for command in self._started:
            command.end()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(tmp_path, f"guarded-{uuid.uuid4().hex[:8]}")
    yield runs
    runs.end()


def logged(command: Command) -> list[dict[str, str]]:
    """Its log. What is no JSON is an error's line."""
    lines = command.err.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def error_line(command: Command, *secrets: str) -> str:
    """The line that a command ended with, which is all it says beside its first words and what the client says."""
    assert command.wait() == 2, command.err.read_text()
    text = command.err.read_text() + command.out.read_text()
    for secret in (PASSWORD, KEY_PASSWORD, *secrets):
        assert secret not in text
    told = [line for line in command.err.read_text().splitlines() if not line.startswith("{")]
    assert len(told) == 1, told
    assert "Traceback" not in text
    assert not [line for line in logged(command) if line["level"] in ("error", "critical")]
    return told[0]


def now() -> int:
    """Records of long ago would be deleted as soon as the broker looks."""
    return int(time.time() * 1000)


def works(secured: Secured, run: Runs, settings: dict[str, str], **environment: str) -> Command:
    """It counts what is written before and after its start, and its offsets are committed."""
    servers = secured.servers["PLAINTEXT"]
    create(servers, f"{run.name}.words", 1)
    write(servers, f"{run.name}.words", [("k", b"a", now()), ("k", b"b", now())])
    command = run(settings, **environment)

    counts = f"{run.name}.counts"

    def there() -> bool:
        assert command.process.poll() is None, command.err.read_text()
        return counts in secured.admin.list_topics(timeout=SECONDS).topics

    until(there, "the topic of counts")
    reader = Reader(servers, [counts])

    def counted(*expected: int) -> bool:
        assert command.process.poll() is None, command.err.read_text()
        return [int(row.value or b"") for row in reader.rows[counts]] == list(expected)

    until(lambda: counted(1, 1), "the first counts", each=reader.poll)
    write(servers, f"{run.name}.words", [("k", b"a", now())])
    until(lambda: counted(1, 1, 2), "the third count", each=reader.poll)
    reader.close()
    group = Consumer({"bootstrap.servers": servers, "group.id": run.name})
    (at,) = group.committed([TopicPartition(f"{run.name}.words", 0)], timeout=SECONDS)
    group.close()
    assert at.offset == 3
    return command


def stops(command: Command) -> None:
    command.process.send_signal(signal.SIGTERM)
    assert command.wait() == 0
    text = command.err.read_text() + command.out.read_text()
    assert PASSWORD not in text and KEY_PASSWORD not in text
    # left at once, by the other client too
    assert "the group was not left" not in text


def unsigned(settings: dict[str, str]) -> dict[str, str]:
    """librdkafka makes tokens itself, without a signature."""
    return settings | {
        "kafka.enable.sasl.oauthbearer.unsecure.jwt": "true",
        "kafka.sasl.oauthbearer.config": f"principal={USER}",
    }


@pytest.mark.parametrize("way", [way for way in WAYS if way != "OAUTHBEARER"])
def test_an_app_is_let_in(secured: Secured, run: Runs, way: str) -> None:
    stops(works(secured, run, settings_for(secured, way)))


def test_with_tokens_from_a_function_that_is_asked_again_before_one_ends(secured: Secured, run: Runs) -> None:
    settings = settings_for(secured, "OAUTHBEARER") | {"kafka_tokens": "security.guarded_service:token"}
    command = works(secured, run, settings, KSTREAM_TEST_TOKEN_SECONDS="12")
    (worker,) = command.children
    before = run.tokens.read_text().split().count(str(worker))
    until(lambda: run.tokens.read_text().split().count(str(worker)) > before + 1, "newer tokens")
    write(secured.servers["PLAINTEXT"], f"{run.name}.words", [("k", b"a", now())])
    reader = Reader(secured.servers["PLAINTEXT"], [f"{run.name}.counts"])
    until(lambda: len(reader.rows[f"{run.name}.counts"]) == 4, "a count with a newer token", each=reader.poll)
    reader.close()
    stops(command)


def test_with_tokens_that_the_client_makes(secured: Secured, run: Runs) -> None:
    stops(works(secured, run, unsigned(settings_for(secured, "OAUTHBEARER"))))


def test_with_tokens_that_the_client_asks_an_endpoint_for(secured: Secured, run: Runs) -> None:
    """By `oidc`. Whoever leaves the group at the end asks for one too."""
    with token_endpoint() as (url, asked):
        settings = settings_for(secured, "OAUTHBEARER") | {
            "kafka.sasl.oauthbearer.method": "oidc",
            "kafka.sasl.oauthbearer.token.endpoint.url": url,
            "kafka.sasl.oauthbearer.client.id": "flights",
            "kafka.sasl.oauthbearer.client.secret": PASSWORD,
        }
        command = works(secured, run, settings)
        before = len(asked)
        stops(command)
        assert len(asked) > before and set(asked) == {f"flights:{PASSWORD}"}


@contextmanager
def token_endpoint() -> Iterator[tuple[str, list[str]]]:
    """A server that gives tokens without a signature, which the broker takes; and who logged in to it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            asked.append(base64.b64decode(self.headers["authorization"].split()[1]).decode())
            given = {"enable.sasl.oauthbearer.unsecure.jwt": "true", "sasl.oauthbearer.config": f"principal={USER}"}
            answer = json.dumps({"access_token": bearer(given)()}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_with_a_certificate_and_a_key_in_the_settings(secured: Secured, run: Runs) -> None:
    settings = settings_for(secured, "mTLS")
    files = {
        "kafka.ssl.certificate.location": "kafka.ssl.certificate.pem",
        "kafka.ssl.key.location": "kafka.ssl.key.pem",
    }
    texts = {files[name]: Path(value).read_text() for name, value in settings.items() if name in files}
    stops(works(secured, run, {name: value for name, value in settings.items() if name not in files} | texts))


def test_with_a_client_certificate_in_a_keystore(secured: Secured, run: Runs) -> None:
    settings = settings_for(secured, "mTLS")
    own = {name: value for name, value in settings.items() if "certificate" not in name and "key" not in name}
    store = {
        "kafka.ssl.keystore.location": str(secured.files.keystore),
        "kafka.ssl.keystore.password": KEY_PASSWORD,
    }
    command = works(secured, run, own | store)
    command.process.send_signal(signal.SIGTERM)
    assert command.wait() == 0


# ---- who is not let in

WRONG = "wr0ng pass%word+"


def without(*names: str) -> Callable[[Secured, dict[str, str]], dict[str, str]]:
    return lambda _, settings: {name: value for name, value in settings.items() if name not in names}


def with_(**more: str) -> Callable[[Secured, dict[str, str]], dict[str, str]]:
    return lambda _, settings: settings | {name.replace("__", "."): value for name, value in more.items()}


def of_a_stranger(secured: Secured, settings: dict[str, str]) -> dict[str, str]:
    files = {
        "kafka.ssl.certificate.location": str(secured.files.stranger),
        "kafka.ssl.key.location": str(secured.files.stranger_key),
    }
    return {name: value for name, value in settings.items() if "password" not in name} | files


def of_the_past(secured: Secured, settings: dict[str, str]) -> dict[str, str]:
    files = {
        "kafka.ssl.certificate.location": str(secured.files.expired),
        "kafka.ssl.key.location": str(secured.files.expired_key),
    }
    return {name: value for name, value in settings.items() if "password" not in name} | files


CERTIFICATE = ("kafka.ssl.certificate.location", "kafka.ssl.key.location", "kafka.ssl.key.password")
NOT_LET_IN = {
    "PLAIN, wrong password": ("PLAIN", with_(kafka__sasl__password=WRONG), "does not let this user in"),
    "PLAIN, no such user": ("PLAIN", with_(kafka__sasl__username="eve"), "does not let this user in"),
    "PLAIN, no password": ("PLAIN", without("kafka.sasl.password"), "sasl.username and sasl.password must be set"),
    "SCRAM-SHA-256, wrong password": (
        "SCRAM-SHA-256",
        with_(kafka__sasl__password=WRONG),
        "does not let this user in",
    ),
    "SCRAM-SHA-512, wrong password": (
        "SCRAM-SHA-512 over TLS",
        with_(kafka__sasl__password=WRONG),
        "does not let this user in",
    ),
    "no mechanism": ("PLAIN", without("kafka.sasl.mechanism"), "kafka.sasl.mechanism is not set"),
    "no such mechanism": ("PLAIN", with_(kafka__sasl__mechanism="PLAINER"), "Unsupported SASL mechanism: PLAINER"),
    "GSSAPI": ("PLAIN", with_(kafka__sasl__mechanism="GSSAPI"), "without Kerberos"),
    "OAUTHBEARER, no tokens": ("OAUTHBEARER", with_(), "needs tokens: set kafka.sasl.oauthbearer.method"),
    "OAUTHBEARER, no function": (
        "OAUTHBEARER",
        with_(kafka_tokens="security.guarded_service:tokens"),
        "kafka_tokens: security.guarded_service has no 'tokens'; did you mean 'token'?",
    ),
    "OAUTHBEARER, a token of nobody's": (
        "OAUTHBEARER",
        lambda _, settings: unsigned(settings) | {"kafka.sasl.oauthbearer.config": "principal=x principalClaimName=y"},
        "does not let this user in",
    ),
    "TLS, unknown authority": ("TLS", without("kafka.ssl.ca.location"), "certificate that is not trusted"),
    "TLS, no such file": ("TLS", with_(kafka__ssl__ca__location="/nowhere/ca.pem"), "ssl.ca.location failed"),
    "mTLS, no certificate": ("mTLS", without(*CERTIFICATE), "does not take this client's certificate"),
    "mTLS, an expired one": ("mTLS", of_the_past, "does not take this client's certificate"),
    "mTLS, a stranger's": ("mTLS", of_a_stranger, "does not take this client's certificate"),
    "mTLS, wrong password of the key": ("mTLS", with_(kafka__ssl__key__password=WRONG), "ssl.key.location failed"),
}


@pytest.mark.parametrize("case", NOT_LET_IN)
def test_who_is_not_let_in_is_told_in_one_line(secured: Secured, run: Runs, case: str) -> None:
    way, change, expected = NOT_LET_IN[case]
    assert expected in error_line(run(change(secured, settings_for(secured, way))), WRONG)


def test_a_function_that_gives_no_token_is_named(secured: Secured, run: Runs) -> None:
    settings = settings_for(secured, "OAUTHBEARER") | {"kafka_tokens": "security.guarded_service:token"}
    line = error_line(run(settings, KSTREAM_TEST_TOKEN_USER="nobody"))
    assert "security.guarded_service:token gives no token: " in line
    assert "PermissionError: the identity provider says no" in line


@pytest.fixture
def stale(secured: Secured) -> Iterator[str]:
    """The address of a server whose certificate has expired."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(secured.files.stale)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    context.wrap_socket(connection, server_side=True).close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_brokers_certificate_that_has_expired(secured: Secured, run: Runs, stale: str) -> None:
    line = error_line(run(settings_for(secured, "TLS") | {"bootstrap_servers": stale}))
    assert "has a certificate that is not trusted" in line and "whether its certificate has expired" in line


def test_a_login_that_nobody_answers(secured: Secured, run: Runs) -> None:
    """The connection is made, and that is all: a line says so in bounded time."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = f"127.0.0.1:{server.getsockname()[1]}"
        line = error_line(run(settings_for(secured, "SCRAM-SHA-256") | {"bootstrap_servers": silent}))
    assert f"no Kafka broker answers at {silent}" in line


@pytest.mark.parametrize("listener", [listener for listener in LISTENERS if listener != "PLAINTEXT"])
def test_brokers_that_want_a_login_or_tls_are_a_hint_where_there_is_no_answer(secured: Secured, listener: str) -> None:
    admin = KafkaClients(secured.servers[listener]).admin()
    with pytest.raises(KafkaUnavailable, match=r"where brokers want TLS or a login: kafka\.security\.protocol"):
        admin.topics(2.0)
    admin.close()


@pytest.mark.parametrize("command", ["doctor", "lag", "status", "topics"])
def test_the_commands_say_it_too(secured: Secured, run: Runs, command: str) -> None:
    settings = settings_for(secured, "PLAIN") | {"kafka.sasl.password": WRONG}
    told = run(settings, command, TARGET)
    assert told.wait() == (1 if command == "doctor" else 2)
    text = told.err.read_text() + told.out.read_text()
    assert "does not let this user in" in " ".join(text.split())
    assert WRONG not in text
