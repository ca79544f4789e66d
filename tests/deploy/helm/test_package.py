"""What `make chart` leaves in dist/: helm reads the package, and pulls it from where the layout is served."""

from __future__ import annotations

import hashlib
import json
import runpy
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.helm.chart import BASE, CHART, ROOT, Helm

SCRIPT = runpy.run_path(str(ROOT / "scripts" / "chart.py"))


@pytest.fixture
def layout(helm: Helm, tmp_path: Path) -> Path:
    found: Path = SCRIPT["layout"](SCRIPT["package"](helm.program, tmp_path / "dist"), tmp_path / "dist" / "chart")
    return found


def blob(layout: Path, said: dict[str, Any]) -> bytes:
    """What a descriptor names, which is what it says of it."""
    algorithm, _, digest = said["digest"].partition(":")
    content = layout.joinpath("blobs", algorithm, digest).read_bytes()
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (digest, said["size"])
    return content


def test_the_layout_has_what_helm_push_sends(layout: Path) -> None:
    assert json.loads(layout.joinpath("oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(layout.joinpath("index.json").read_text())["manifests"]
    about = yaml.safe_load(CHART.joinpath("Chart.yaml").read_text())
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": about["version"]}
    manifest = json.loads(blob(layout, entry))
    assert json.loads(blob(layout, manifest["config"])) == about
    (layer,) = manifest["layers"]
    assert blob(layout, layer) == layout.with_name(f"kstream-{about['version']}.tgz").read_bytes()
    assert [manifest["config"]["mediaType"], layer["mediaType"]] == [
        "application/vnd.cncf.helm.config.v1+json",
        "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
    ]
    assert len(list(layout.joinpath("blobs/sha256").iterdir())) == 3, "and nothing of a layout before"


@pytest.fixture
def registry(layout: Path) -> Iterator[str]:
    """The address of a registry that serves the layout as `air/kstream`, to read."""
    (entry,) = json.loads(layout.joinpath("index.json").read_text())["manifests"]
    tag = entry["annotations"]["org.opencontainers.image.ref.name"]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, *, body: bool) -> None:
            name, _, kind = self.path.removeprefix("/v2/air/kstream/").partition("/")
            digest = entry["digest"] if kind == tag else kind
            file = layout / "blobs" / "sha256" / digest.removeprefix("sha256:")
            found = b"" if self.path == "/v2/" else file.read_bytes() if kind and file.is_file() else None
            self.send_response(404 if found is None else 200)
            if name == "manifests":
                self.send_header("Content-Type", entry["mediaType"])
            else:
                self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Docker-Content-Digest", digest)
            self.send_header("Content-Length", str(len(found or b"")))
            self.end_headers()
            if body:
                self.wfile.write(found or b"")

        def do_GET(self) -> None:
            self.answer(body=True)

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_helm_installs_from_a_registry_that_serves_it(helm: Helm, registry: str) -> None:
    version = yaml.safe_load(CHART.joinpath("Chart.yaml").read_text())["version"]
    arguments = ("template", "air", f"oci://{registry}/air/kstream", "--version", version, "--plain-http")
    from_registry = helm.run(*arguments, values=BASE)
    from_folder = helm.run("template", "air", str(CHART), values=BASE)
    assert list(yaml.safe_load_all(from_registry)) == list(yaml.safe_load_all(from_folder))
