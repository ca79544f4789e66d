"""`python -m kstream.cli` is the `kstream` command."""

import sys

from kstream.cli import main

if __name__ == "__main__":
    sys.exit(main())
