"""Root file systems of Debian: what images are made of where none can be pulled."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from deploy.recipes import CannotInstall, apt_get_install, run

NEEDLESS = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale", "dev", "proc")


@dataclass(frozen=True)
class Debootstrap:
    """A tar file of a small Debian with these packages, as debootstrap makes it from the mirror that apt is set up for.

    `links`: symbolic links to add, as (path in the root, target). `version` is Debian's release: packages are what the
    mirror has when the file is made.
    """

    packages: tuple[str, ...]
    links: tuple[tuple[str, str], ...] = ()
    version: str = "trixie"
    takes: str = "a minute"
    result: str = "rootfs.tar"

    def install(self, into: Path) -> None:
        if os.geteuid() != 0:
            raise CannotInstall("debootstrap needs root")
        if shutil.which("debootstrap") is None:
            apt_get_install("debootstrap")
        root, mirror = into / "root", run(["apt-get", "indextargets", "--format", "$(REPO_URI)"]).split()[0]
        options = ["--variant=minbase", f"--include={','.join(self.packages)}"]
        run(["debootstrap", *options, self.version, str(root), mirror])
        for path, target in self.links:
            root.joinpath(path).symlink_to(target)
        without = [f"--exclude=./{name}/*" for name in NEEDLESS]
        run(["tar", "--directory", str(root), *without, "--create", "--file", str(into / self.result), "."])
        shutil.rmtree(root)
