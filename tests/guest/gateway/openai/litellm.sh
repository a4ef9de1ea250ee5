#!/bin/bash
# Have LiteLLM's SDK and router ask the gateway: test_litellm.py, none of it skipped.
#
#   litellm.sh [PYTEST ARGUMENT...]
#
# LiteLLM holds other packages to older versions than the tests have, so it gets an environment of its own, once:
# .venv/litellm. Exits with pytest's status; 125: there is no LiteLLM to be had, a failure and not a skip.
# May be set: PYTHON (the tests'; .venv's, python3), MLXBRIDGE_LITELLM_PYTHON (one that has LiteLLM: nothing is installed).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../../../.."

no_litellm() { echo "litellm: $*" >&2; exit 125; }

has_litellm() { [ -x "$1" ] && "$1" -c "import importlib.util, sys; sys.exit(not importlib.util.find_spec('litellm'))"; }

python=${PYTHON:-}
[ -n "$python" ] || { [ -x .venv/bin/python ] && python=.venv/bin/python; } || python=python3

theirs=${MLXBRIDGE_LITELLM_PYTHON:-$PWD/.venv/litellm/bin/python}
if ! has_litellm "$theirs"; then
    [ -z "${MLXBRIDGE_LITELLM_PYTHON:-}" ] || no_litellm "$theirs has none"
    echo "litellm: installing it into .venv/litellm" >&2
    "$python" -m venv .venv/litellm || no_litellm "$python makes no environments"
    "$theirs" -m pip install -q --disable-pip-version-check "litellm>=1.80" "mcp>=1.10" >&2 \
        || no_litellm "pip cannot install it"
fi
MLXBRIDGE_LITELLM_PYTHON=$theirs exec "$python" -m pytest -q -p no:cacheprovider --numprocesses=0 \
    tests/guest/gateway/openai/test_litellm.py "$@"
