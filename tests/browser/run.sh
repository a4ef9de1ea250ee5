#!/bin/bash
# Drive the gateway's page in a real Chromium: the tests of this folder, none of them skipped.
#
#   run.sh [PYTEST ARGUMENT...]    (with any, name the tests too)
#
# Takes the chromium that is installed, or what MLXBRIDGE_CHROMIUM names. Where there is none it has apt-get install Debian's, as
# root or through sudo -n. Exits with pytest's status; 125: no browser, a failure and not a skip.
# May be set: PYTHON (the active environment's, .venv's, python3), MLXBRIDGE_SCREENSHOTS (a folder for pictures).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."

no_browser() { echo "browser: $*" >&2; exit 125; }

find_chromium() {
    command -v chromium || command -v chromium-browser || command -v google-chrome || command -v google-chrome-stable
}

install_chromium() {
    local sudo=
    [ "$(id -u)" = 0 ] || sudo="sudo -n"
    command -v apt-get >/dev/null || no_browser "no apt-get here: install Chromium, or name one in MLXBRIDGE_CHROMIUM"
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends chromium)
    echo "browser: installing Debian's chromium" >&2
    $sudo "${install[@]}" >&2 || { $sudo apt-get -q update >&2 && $sudo "${install[@]}" >&2; } \
        || no_browser "cannot install chromium"
}

chromium=${MLXBRIDGE_CHROMIUM:-$(find_chromium || true)}
if [ -z "$chromium" ]; then
    install_chromium
    chromium=$(find_chromium) || no_browser "chromium was installed, but is not on PATH"
fi

python=${PYTHON:-}
[ -n "$python" ] || { [ -x .venv/bin/python ] && python=.venv/bin/python; } || python=python3
MLXBRIDGE_CHROMIUM=$chromium exec "$python" -m pytest -q -p no:cacheprovider --numprocesses=0 "${@:-tests/browser}"
