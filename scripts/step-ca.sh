#!/usr/bin/env bash
# Prints the path of step-ca, the CA that nobody here wrote: the very version, and only if its module has the pinned
# hash. Nothing is printed where it is not installed.
#
#   scripts/step-ca.sh            where it is
#   scripts/step-ca.sh install    builds it first into .tools/ where it is missing (Go; some minutes, once)
set -euo pipefail
cd "$(dirname "$0")/.."

module=github.com/smallstep/certificates
version=v0.30.2
# What go.sum would say of the module: its files, and so the versions and hashes of all it needs.
sum=h1:1G3xBi8sJ740iA1mMPW2Svv7EIZKJ4Zf/iQtA5QlN0Y=
program=$PWD/.tools/step-ca-$version

notice() {
    echo "NOTICE: step-ca $version is not there: $1; its tests are SKIPPED" >&2
    exit 0
}

if [ ! -x "$program" ] && [ "${1:-}" = install ]; then
    command -v go >/dev/null 2>&1 || notice "Go is not installed"
    export CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-buildvcs=false
    # Outside of any module.
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    found=$(cd "$folder" && go mod download -json "$module@$version" 2>/dev/null | sed -n 's/^\t"Sum": "\(.*\)",$/\1/p') ||
        notice "the Go module proxy does not give it"
    if [ "$found" != "$sum" ]; then
        echo "step-ca: $module@$version has the hash $found, not $sum" >&2
        exit 1
    fi
    echo "step-ca $version: building from source (some minutes, once)" >&2
    (cd "$folder" && GOBIN=$folder nice go install -p 2 "$module/cmd/step-ca@$version" 2>"$folder/said") || {
        tail -n 20 "$folder/said" >&2
        notice "it could not be built with $(go version | cut -d' ' -f3)"
    }
    mkdir -p .tools
    mv "$folder/step-ca" "$program"
fi
if [ -x "$program" ]; then echo "$program"; fi
