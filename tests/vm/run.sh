#!/bin/bash
# Run a command where AF_VSOCK is real: in user-mode Linux, Debian's kernel as one ordinary process. It needs
# no KVM and no module on this machine, and takes some 4 s; checkout and interpreter are used in place.
#
#   run.sh loop CMD...               one kernel; CID 1 and CID 2 both reach it (vsock_loopback)
#   run.sh pair HOSTCMD -- CMD...    two kernels; HOSTCMD (one string, for sh) on CID 2, CMD on CID 3
#
# Prints CMD's output and exits with its status; 124: out of time, 125: no VM, a failure and not a skip.
# CMD sees / read-only, an empty /tmp, and $VM_OUT, the one folder of this machine that it can write. Of the
# environment it gets PATH, LANG, CI, VIRTUAL_ENV, PYTHONPATH, PYTEST_ADDOPTS and MLXBRIDGE_*, and besides
# MLXBRIDGE_VM=1 and MLXBRIDGE_VM_MODE=loop|pair.
# May be set: VM_PYTHON (the interpreter inside: else CMD's own, the active venv's, python3), VM_MEM (1G),
# VM_TIMEOUT (240 s), VM_OUT, VM_CACHE (116 MB, filled from Debian's archive on first use).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${VM_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/mlxbridge/uml}

no_vm() { echo "vm: $*" >&2; exit 125; }

usage() { sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 125; }

mode=${1:-} host=
case $mode in
loop) shift ;;
pair) host=${2:-}; [ "${3:-}" = -- ] || usage; shift 3 ;;
*) usage ;;
esac
[ $# -gt 0 ] || usage
[ "$(uname -sm)" = "Linux x86_64" ] || no_vm "user-mode Linux runs on Linux x86_64 only, this is $(uname -sm)"

download() { (cd "$1" && apt-get -q -o APT::Sandbox::User=root download user-mode-linux) >&2; }

update() {                  # needs root; on a machine whose lists are there and fresh it is never called
    local sudo=
    [ "$(id -u)" = 0 ] || sudo="sudo -n"
    $sudo apt-get -q update >&2
}

fetch_kernel() {            # into $cache, whole or not at all
    command -v apt-get dpkg-deb >/dev/null || no_vm "no apt-get here: install user-mode-linux by hand"
    mkdir -p "$cache"
    exec 9>"$cache/.lock"
    flock 9
    if [ ! -x "$cache/root/usr/bin/linux.uml" ]; then
        echo "vm: fetching Debian's user-mode-linux (41 MB) into $cache" >&2
        rm -rf "$cache/new" "$cache/root"
        mkdir "$cache/new"
        download "$cache/new" || { update && download "$cache/new"; } \
            || no_vm "cannot download user-mode-linux from Debian's archive"
        dpkg-deb -x "$cache"/new/*.deb "$cache/new" || no_vm "cannot unpack user-mode-linux"
        rm "$cache"/new/*.deb
        mv "$cache/new" "$cache/root"
    fi
    exec 9>&-
}

uml=$(command -v linux.uml || true) modules=/usr/lib/uml/modules
if [ -z "$uml" ]; then
    uml=$cache/root/usr/bin/linux.uml modules=$cache/root/usr/lib/uml/modules
    [ -x "$uml" ] || fetch_kernel
fi
modules=$(echo "$modules"/*/kernel/net/vmw_vsock)
[ -d "$modules" ] || no_vm "this user-mode-linux has no vsock modules ($modules)"

python=${VM_PYTHON:-}
if [ -z "$python" ]; then
    case $1 in */python*) python=$1 ;; *) python=${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/python} ;; esac
fi
# A pyenv shim is a script, and process 1 has to be the interpreter itself.
python=$("${python:-python3}" -c 'import sys; print(sys.executable)') || no_vm "no Python: set VM_PYTHON"

work=$(mktemp -d) pids=()
VM_OUT=${VM_OUT:-$work/out}
mkdir -p "$VM_OUT" "$work/mem"
VM_OUT=$(cd "$VM_OUT" && pwd)

cleanup() {                 # UML makes a process group of its own: end that, then the rest
    set +e
    for f in "$work"/*/vm/pid; do [ -s "$f" ] && kill -KILL -- "-$(cat "$f")" 2>/dev/null; done
    for p in "${pids[@]}"; do kill "$p" 2>/dev/null; done
    wait 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

boot() {                    # boot ROLE MODULES VMARGS COMMAND...: the VM, in the foreground
    local role=$1 names=$2 args=$3; shift 3
    mkdir -p "$work/$role"
    MLXBRIDGE_VM=1 MLXBRIDGE_VM_MODE=$mode \
        "$python" -I "$here/config.py" "$work/$role/config" "$modules" "$names" "$VM_OUT" "$@"
    # shellcheck disable=SC2086  # $args is words
    exec env TMPDIR="$work/mem" timeout -k 2 "${VM_TIMEOUT:-240}" "$uml" mem="${VM_MEM:-1G}" $args \
        umid=vm uml_dir="$work/$role" root=/dev/root rootfstype=hostfs rootflags=/ ro quiet \
        con=null con0=null,fd:1 VMDIR="$work/$role" init="$python" -- -I "$here/init.py" \
        </dev/null >"$work/$role/console" 2>&1
}

case $mode in
loop)
    main=vm
    boot vm vsock,vmw_vsock_virtio_transport_common,vsock_loopback "" "$@" & pids+=($!) ;;
pair)
    main=guest
    "$python" -I "$here/vsock_switch.py" 2="$work/2" 3="$work/3" >"$work/switch" 2>&1 & pids+=($!)
    for _ in {1..100}; do grep -qs ready "$work/switch" && break; sleep .1; done
    names=vsock,vmw_vsock_virtio_transport_common,vmw_vsock_virtio_transport
    # 19: vsock, in virtio's list of devices
    boot host $names "virtio_uml.device=$work/2:19" sh -c "$host" & pids+=($!)
    boot guest $names "virtio_uml.device=$work/3:19" "$@" & pids+=($!) ;;
esac
rc=0
wait "${pids[-1]}" || rc=$?
if [ "$mode" = pair ]; then
    echo "--- host (CID 2):"
    cat "$work/host/output" 2>/dev/null || cat "$work/host/console" "$work/switch" || true
    echo "--- guest (CID 3):"
fi
cat "$work/$main/output" 2>/dev/null || true
if [ $rc = 124 ] || [ $rc = 137 ]; then
    echo "vm: out of time (VM_TIMEOUT=${VM_TIMEOUT:-240} s)" >&2
    exit 124
fi
if [ ! -s "$work/$main/status" ]; then
    tail -30 "$work/$main/console" >&2
    no_vm "it gave no result; above is its console (it needs ptrace, and a TMPDIR without noexec)"
fi
exit "$(cat "$work/$main/status")"
