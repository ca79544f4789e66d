#!/bin/sh
# Prints the newest suitable Python (>= 3.11, with ensurepip), or one line of advice and status 2.
# PYTHON=/path/to/python chooses one.
suitable='import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))'
for candidate in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3}; do
    if "$candidate" -c "$suitable" >/dev/null 2>&1; then
        "$candidate" -c 'import sys; print(sys.executable)'
        exit 0
    fi
done
echo "kstream needs Python >= 3.11 with ensurepip: install it (Debian, Ubuntu: apt-get install python3 python3-venv) or name one: make PYTHON=/path/to/python3" >&2
exit 2
