"""Secrets that are planted in the settings of an app are in nothing that it, or a command, says: not at DEBUG, not when
it fails, not in another form."""

from __future__ import annotations

import base64
import json
import re
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from kstream.config.sources import resolve_settings
from kstream.web.api import make_app as make_web_app
from support.kafka import create, write
from support.observed import FakeObserved
from support.running import Command, until
from support.secured import KEY_PASSWORD, PASSWORD, Secured, settings_for

TARGET = "security.guarded_service:app"
WEB_TOKEN = "web/t0ken+with=signs"
CLIENT_SECRET = "cl1ent&secret/of+oauth"
WRONG = "wr0ng&pass/word+x"
SECRETS = {
    "the password": PASSWORD,
    "the keystore's": KEY_PASSWORD,
    "the page's token": WEB_TOKEN,
    "the client secret": CLIENT_SECRET,
    "a wrong password": WRONG,
}


def forms(secret: str) -> Iterator[str]:
    """As it is, in URLs, in JSON, in hexadecimal, and within what is base64."""
    data = secret.encode()
    yield from {
        secret,
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        data.hex(),
        repr(secret)[1:-1],
    }
    for shift in range(3):  # what comes before it may end anywhere in a group of three bytes
        inner = base64.b64encode(b"\0" * shift + data)[(4 if shift else 0) : -4].decode()
        yield from {inner, inner.replace("+", "-").replace("/", "_")}


def leaks(text: str) -> list[str]:
    flat = re.sub(r"\s+", "", text)
    return [
        f"{what}, as {form}: {text[max(text.find(form) - 200, 0) :][:300]}"
        for what, secret in SECRETS.items()
        for form in forms(secret)
        if form in text or form in flat
    ]


def test_the_search_finds_each_form() -> None:
    for secret in SECRETS.values():
        for said in (
            secret,
            f"https://u:{quote(secret, safe='')}@h/",
            json.dumps({"p": secret}),
            secret.encode().hex(),
            *(
                base64.b64encode(before + secret.encode() + b"\0x").decode()
                for before in (b"", b"\0u\0", b"\0us\0", b"u")
            ),
        ):
            assert leaks(f"x {said} y"), said
    assert not leaks("nothing of the kind")


class Planted:
    """An app with secrets, in files and in the environment, and all that was said so far, by who said it."""

    def __init__(self, secured: Secured, directory: Path) -> None:
        self.secured, self.directory = secured, directory
        self.name = f"guarded-{uuid.uuid4().hex[:8]}"
        self.said: dict[str, str] = {}
        self._commands: list[Command] = []
        self._saying: list[tuple[str, Command]] = []
        files = {"kafka.sasl.password": PASSWORD, "web_token": WEB_TOKEN}
        for name, value in files.items():
            (directory / name).write_text(f"{value}\n")
        self.environment = {
            "KSTREAM_TEST_APP": self.name,
            "KSTREAM_BOOTSTRAP_SERVERS": secured.servers["SASLTLS"],
            "KSTREAM_KAFKA__SASL_PASSWORD_FILE": str(directory / "kafka.sasl.password"),
            "KSTREAM_WEB_TOKEN_FILE": str(directory / "web_token"),
            "KSTREAM_KAFKA__SASL_OAUTHBEARER_CLIENT_SECRET": CLIENT_SECRET,
            "KSTREAM_KAFKA__SSL_KEYSTORE_PASSWORD": KEY_PASSWORD,
            "KSTREAM_KAFKA__SSL_KEYSTORE_LOCATION": str(secured.files.keystore),
            "KSTREAM_STATE_DIR": str(directory / "state"),
            "KSTREAM_LOG_FILE": str(directory / "app.log"),
            "KSTREAM_WEB_PORT": "0",
            "KSTREAM_WORKERS": "1",
            "KSTREAM_RESTART_INITIAL": "1s",
            "COLUMNS": "300",
        }
        for name, value in settings_for(secured, "PLAIN over TLS").items():
            if name.startswith("kafka.") and name != "kafka.sasl.password":
                self.environment[f"KSTREAM_KAFKA__{name.removeprefix('kafka.').replace('.', '_').upper()}"] = value

    def start(self, *arguments: str, **more: str) -> Command:
        folder = self.directory / f"command{len(self._commands)}"
        self._commands.append(Command(folder, *arguments, **{**self.environment, **more}))
        return self._commands[-1]

    def say(self, *arguments: str, **more: str) -> None:
        """Starts a command. `heard` waits for its end and keeps all that it said."""
        self._saying.append((f"{' '.join(arguments)} {sorted(more)}", self.start(*arguments, **more)))

    def heard(self) -> None:
        for what, command in self._saying:
            command.wait()
            self.said[what] = command.out.read_text() + command.err.read_text()
        self._saying.clear()

    def end(self) -> None:
        for command in self._commands:
            command.end()


@pytest.fixture
def planted(secured: Secured, tmp_path: Path) -> Iterator[Planted]:
    planted = Planted(secured, tmp_path)
    yield planted
    planted.end()


def fetch(url: str, token: str | None) -> str:
    request = urllib.request.Request(url, headers={} if token is None else {"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            if answer.headers.get_content_type() == "text/event-stream":
                return "".join(answer.readline().decode() for _ in range(6))
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()


def paths() -> list[str]:
    """Every path that takes GET."""
    routes = make_web_app(FakeObserved(), "t").routes
    found = [route.path for route in routes if "GET" in (getattr(route, "methods", None) or ())]  # type: ignore[attr-defined]
    assert "/api/settings" in found and "/metrics" in found
    return [re.sub(r"{[\w:]+}", "1", path.replace("{name}", "seen?key=a")) for path in found]


def test_nothing_that_an_app_or_a_command_says_has_a_secret_in_it(planted: Planted) -> None:
    servers = planted.secured.servers["PLAINTEXT"]
    create(servers, f"{planted.name}.words", 1)
    now = int(time.time() * 1000)
    write(servers, f"{planted.name}.words", [("k", b"a", now), ("k", b"boom", now)])
    run = planted.start("run", TARGET, "--log-level", "DEBUG", KSTREAM_KAFKA__DEBUG="all")
    until(lambda: "this word is not counted" in run.err.read_text() or run.process.poll() is not None, "the failure")
    found = re.search(r"status page: (http://[^/ ]+)", run.err.read_text())
    assert found is not None, run.err.read_text()[-3000:]
    url = found[1]
    for name in ("", "kafka", "kafka.admin", "kstream.kafka", "uvicorn.error", "asyncio"):
        body = json.dumps({"level": "DEBUG", **({"logger": name} if name else {})}).encode()
        headers = {"Authorization": f"Bearer {WEB_TOKEN}"}
        urllib.request.urlopen(urllib.request.Request(f"{url}/api/log-level", body, headers), timeout=60).read()
    for path in paths():
        for who, token in {"with": WEB_TOKEN, "with a wrong": WRONG, "without a": None}.items():
            planted.said[f"{path} {who} token"] = fetch(url + path, token)
    assert "by-word-repartition" in planted.said["/api/graph with token"]
    assert '"kafka.sasl.password","value":"***"' in planted.said["/api/settings with token"]
    assert "event: status" in planted.said["/api/events with token"]
    until(lambda: "not counted" in fetch(f"{url}/api/status", WEB_TOKEN), "the error on the page")
    planted.said["/api/status at last"] = fetch(f"{url}/api/status", WEB_TOKEN)
    for pid in (run.process.pid, *run.children):
        planted.said[f"command line of {pid}"] = Path(f"/proc/{pid}/cmdline").read_text()
    planted.say("status", "--url", url, "--json")
    planted.say("status", TARGET, "--once")
    planted.say("doctor", TARGET)
    planted.say("config", TARGET)
    planted.say("config", TARGET, "--json")
    planted.say("topology", TARGET)
    planted.say("lag", TARGET, "--debug")
    planted.heard()
    run.process.terminate()
    assert run.wait() == 0
    # ---- what goes wrong
    planted.say("run", TARGET, "--debug", KSTREAM_KAFKA__SASL_PASSWORD=WRONG, KSTREAM_KAFKA__SASL_PASSWORD_FILE="",
                KSTREAM_KAFKA__DEBUG="all", KSTREAM_LOG_LEVEL="DEBUG")  # fmt: skip
    planted.say("run", TARGET, "--debug", KSTREAM_KAFKA__SSL_KEYSTORE_PASSWORD=WRONG)
    planted.say("run", TARGET, "--debug", KSTREAM_KAFKA__SASL_PASWORD=WRONG)
    planted.say("run", TARGET, "--debug", KSTREAM_KAFKA=f'{{"sasl.password": "{WRONG}"')
    planted.say("run", TARGET, "--debug", "--set", f"kafka.sasl.password:{WRONG}")
    planted.say("run", TARGET, "--debug", KSTREAM_KAFKA_TOKENS=WRONG)
    planted.say("run", TARGET, "--debug", KSTREAM_KAFKA__SASL_MECHANISM="OAUTHBEARER",
                KSTREAM_KAFKA__SASL_OAUTHBEARER_METHOD="oidc", KSTREAM_KAFKA__SASL_OAUTHBEARER_CLIENT_ID="me",
                KSTREAM_KAFKA__SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL="http://127.0.0.1:1/token")  # fmt: skip
    planted.say("doctor", TARGET, "--debug", KSTREAM_KAFKA__SASL_PASSWORD=WRONG, KSTREAM_KAFKA__SASL_PASSWORD_FILE="")

    planted.heard()
    planted.said["run"] = run.err.read_text() + run.out.read_text()
    logs = sorted(planted.directory.glob("app*.log*"))
    assert logs
    for log in logs:
        planted.said[log.name] = log.read_text()
    assert '"level":"debug"' in planted.said["run"] and "SASL" in planted.said["run"]
    assert all(planted.said.values()), [who for who, what in planted.said.items() if not what]
    leaked = {who: found for who, what in planted.said.items() if (found := leaks(what))}
    assert not leaked, json.dumps(leaked, indent=1)[:6000]


def test_settings_do_not_show_them(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in planted.environment.items():
        monkeypatch.setenv(name, value)
    settings, sources = resolve_settings({}, {}, None)
    assert settings.kafka["sasl.password"] == PASSWORD and settings.web_token == WEB_TOKEN
    assert not leaks(repr(settings)) and not leaks(str(settings.redacted())) and not leaks(str(sources))
