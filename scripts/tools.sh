#!/bin/sh
# Makes sure that the programs which some tests need are there, beside Python: Debian's packages, by apt-get.
# Their services are not started. One line and status 2 when it cannot.
# `tools.sh check PACKAGE...` installs nothing: one line and status 2 where one of these is missing.
set -eu

only=""
if [ "${1:-}" = check ]; then
    shift
    only=" $* "
fi
missing=""
need() { # package, then its programs
    package=$1
    shift
    case "${only:-" $package "}" in
    *" $package "*) ;;
    *) return ;;
    esac
    for program in "$@"; do
        command -v "$program" >/dev/null || { missing="$missing $package" && return; }
    done
}
need chromium chromium
need prometheus prometheus promtool
need prometheus-alertmanager prometheus-alertmanager amtool
if [ -z "$missing" ]; then
    [ -n "$only" ] || echo "tools: all there"
    exit 0
fi
if [ -n "$only" ]; then
    echo "tools: missing:$missing; run \`make tools\` first" >&2
    exit 2
fi

cannot() {
    echo "tools: missing:$missing; $1" >&2
    exit 2
}
command -v apt-get >/dev/null || cannot "install them by other means: there is no apt-get here"
if [ "$(id -u)" -eq 0 ]; then
    root=""
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    root="sudo -n"
else
    cannot "run as root: apt-get install$missing"
fi

echo "tools: installing$missing"
# Debian starts a service when its package is installed, unless this file says no (101). One that is there is left alone.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$root rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | $root tee "$policy" >/dev/null
    $root chmod +x "$policy"
fi
install() {
    # shellcheck disable=SC2086 # several words on purpose
    $root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends $missing </dev/null >/dev/null
}
install 2>/dev/null || { $root apt-get update --quiet >/dev/null && install; } || cannot "apt-get failed, see above"
if [ -d /run/systemd/system ]; then # nor at the next boot
    for service in $missing; do
        [ "$service" = chromium ] || $root systemctl disable --quiet "$service"
    done
fi
