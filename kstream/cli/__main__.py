"""`python -m kstream.cli` is the `kstream` command."""

import sys

from kstream.cli import command

if __name__ == "__main__":
    sys.exit(command())
