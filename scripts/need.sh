#!/usr/bin/env bash
# Installs what Countersign needs from the distribution, or says what to install.
#
#   scripts/need.sh run     what the service and its scripts need
#   scripts/need.sh demo    and a software TPM for the demo's second act
#   scripts/need.sh test    what `make test` needs as well
#
# A software TPM and what goes with it are wanted, not needed: where they cannot be had, what would use them is skipped,
# loudly.
set -euo pipefail

what=${1:-run}
declare -A package=(
    [openssl]=openssl
    [osslsigncode]=osslsigncode
    [python3]=python3
    [curl]=curl
    [cc]=gcc
)
commands="openssl osslsigncode python3 curl cc"
modules="/usr/lib/softhsm/libsofthsm2.so /usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so
/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so /usr/local/lib/softhsm/libsofthsm2.so /usr/lib64/pkcs11/libsofthsm2.so"

have_postgres() {
    local bin
    for bin in "${COUNTERSIGN_TEST_POSTGRES_BIN:-/nowhere}" /usr/lib/postgresql/*/bin /usr/local/bin /usr/bin; do
        [ -x "$bin/initdb" ] && [ -x "$bin/postgres" ] && [ -x "$bin/psql" ] && return
    done
    return 1
}

# Debian's package makes a cluster and starts it, unless it is told before that not to.
no_cluster() {
    local conf=/etc/postgresql-common/createcluster.conf
    [ -e "$conf" ] || apt_get postgresql-common
    sed -i -E "s/^#?[[:space:]]*(create_main_cluster)[[:space:]]*=.*/\\1 = false/" "$conf"
    grep -q '^create_main_cluster = false' "$conf" || echo 'create_main_cluster = false' >>"$conf"
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

missing=()
for c in $commands; do
    command -v "$c" >/dev/null 2>&1 || missing+=("${package[$c]}")
done
found=
for m in ${COUNTERSIGN_HSM_MODULE:-} $modules; do
    [ -e "$m" ] && { found=$m; break; }
done
[ -n "$found" ] || missing+=(softhsm2)
command -v softhsm2-util >/dev/null 2>&1 || [[ " ${missing[*]-} " == *" softhsm2 "* ]] || missing+=(softhsm2)
wanted=()
if [ "$what" = test ] || [ "$what" = demo ]; then
    # A second PKCS#11 module: tpm2-pkcs11 on a software TPM.
    for c in swtpm:swtpm swtpm_setup:swtpm-tools tpm2_flushcontext:tpm2-tools pkcs11-tool:opensc; do
        command -v "${c%%:*}" >/dev/null 2>&1 || wanted+=("${c##*:}")
    done
    [ -n "$(ls /usr/lib/*/libtpm2_pkcs11.so* /usr/lib64/pkcs11/libtpm2_pkcs11.so 2>/dev/null)" ] || wanted+=(libtpm2-pkcs11-1)
    [ -n "$(ls /usr/lib/*/libtss2-tcti-swtpm.so* /usr/lib64/libtss2-tcti-swtpm.so* 2>/dev/null)" ] || wanted+=(libtss2-tcti-swtpm0)
    # A resource manager before it. Not where there is a chip: as a service it would take that for itself.
    if [ ! -e /dev/tpm0 ]; then
        for c in dbus-daemon:dbus-daemon tpm2-abrmd:tpm2-abrmd; do
            PATH=$PATH:/usr/sbin command -v "${c%%:*}" >/dev/null 2>&1 || wanted+=("${c##*:}")
        done
        [ -n "$(ls /usr/lib/*/libtss2-tcti-tabrmd.so* /usr/lib64/libtss2-tcti-tabrmd.so* 2>/dev/null)" ] || wanted+=(libtss2-tcti-tabrmd0)
    fi
    if [ -e /dev/tpm0 ] && ! PATH=$PATH:/usr/sbin command -v tpm2-abrmd >/dev/null 2>&1; then
        echo "NOTICE: this machine has a TPM, so tpm2-abrmd is not installed from here; what needs it beside a software TPM" >&2
        echo "        (a key whose origin is proved) will be SKIPPED." >&2
    fi
    # The worker's TPM adapter links libtss2 (scripts/test-features.sh).
    command -v pkg-config >/dev/null 2>&1 || wanted+=(pkg-config)
    pkg-config --exists tss2-esys tss2-sys tss2-mu tss2-tctildr 2>/dev/null || wanted+=(libtss2-dev)
fi
if [ "$what" = test ]; then
    # The tests stop, kill and count processes.
    { type -P pgrep && type -P kill; } >/dev/null 2>&1 || missing+=(procps)
    # schemathesis gets a folder of its own.
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    python3 -c 'import ensurepip' 2>/dev/null || python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
    # They start servers of their own from these programs (crates/testkit/src/postgres).
    have_postgres || missing+=(postgresql)
fi

if [ ${#missing[@]} -eq 0 ]; then
    echo "needs: all there (openssl, osslsigncode, python3, curl, a C compiler, SoftHSM at $found)"
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "needs: installing ${missing[*]}"
    apt-get update -qq
    [[ " ${missing[*]} " != *" postgresql "* ]] || no_cluster
    apt_get "${missing[@]}"
else
    echo "needs: missing ${missing[*]}" >&2
    echo "Install them and run this again, for example:" >&2
    echo "    sudo apt-get install ${missing[*]}" >&2
    if [[ " ${missing[*]} " == *" postgresql "* ]]; then
        echo "(Before: sudo apt-get install postgresql-common, and create_main_cluster = false in" >&2
        echo "/etc/postgresql-common/createcluster.conf, or the package starts a server of its own.)" >&2
    fi
    exit 1
fi
if [ ${#wanted[@]} -gt 0 ]; then
    echo "needs: a software TPM, installing ${wanted[*]}"
    if ! { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 && apt-get update -qq && apt_get "${wanted[@]}"; }; then
        echo "WARNING: ${wanted[*]} cannot be installed from here: what needs a software TPM will be SKIPPED." >&2
        echo "         For example: sudo apt-get install ${wanted[*]}" >&2
    fi
fi
command -v cargo >/dev/null 2>&1 || { echo "needs: a Rust toolchain (1.95 or later), see https://rustup.rs" >&2; exit 1; }
