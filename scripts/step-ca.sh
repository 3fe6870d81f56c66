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
# What go.sum would say of the module: its files. Its own go.mod and go.sum are among them, and it is built inside of
# itself, so that they say the version and the hash of all it needs.
sum=h1:1G3xBi8sJ740iA1mMPW2Svv7EIZKJ4Zf/iQtA5QlN0Y=
program=$PWD/.tools/step-ca-$version

notice() {
    echo "NOTICE: step-ca $version is not there: $1; its tests are SKIPPED" >&2
    exit 0
}

if [ ! -x "$program" ] && [ "${1:-}" = install ]; then
    command -v go >/dev/null 2>&1 || notice "Go is not installed"
    # Built as its own go.mod and go.sum say, whatever stands in this machine's settings: nothing else is let in.
    export CGO_ENABLED=0 GOTOOLCHAIN=local GOWORK=off GOFLAGS='-mod=readonly -buildvcs=false'
    # Outside of any module.
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    (cd "$folder" && go mod download -json "$module@$version" >module.json 2>/dev/null) ||
        notice "the Go module proxy does not give it"
    field() { sed -n 's/^\t"'"$1"'": "\(.*\)",\{0,1\}$/\1/p' "$folder/module.json"; }
    if [ "$(field Sum)" != "$sum" ]; then
        echo "step-ca: $module@$version has the hash $(field Sum), not $sum" >&2
        exit 1
    fi
    echo "step-ca $version: building from source (some minutes, once)" >&2
    # `go install module@version` would read no go.sum. The module's folder cannot be written to.
    (cd "$(field Dir)" && nice go build -p 2 -o "$folder/step-ca" ./cmd/step-ca 2>"$folder/said") || {
        tail -n 20 "$folder/said" >&2
        notice "it could not be built with $(go version | cut -d' ' -f3)"
    }
    mkdir -p .tools
    mv "$folder/step-ca" "$program"
fi
if [ -x "$program" ]; then echo "$program"; fi
