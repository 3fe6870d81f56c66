#!/usr/bin/env bash
# Runs cargo-fuzz, building the very version into .tools/ first where it is not installed.
#
#   scripts/cargo-fuzz.sh list | run TARGET … | build …
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.13.2
tools=$PWD/.tools

says() { [ "$("$1" --version 2>/dev/null)" = "cargo-fuzz $version" ]; }

if command -v cargo-fuzz >/dev/null 2>&1 && says cargo-fuzz; then
    fuzz=cargo-fuzz
else
    fuzz=$tools/bin/cargo-fuzz
    says "$fuzz" || {
        echo "fuzz: cargo-fuzz $version is not installed: building it into .tools/ (a minute or two)" >&2
        # In a folder of its own: what it is built with has nothing to do with our own build.
        cargo install --quiet --locked --root "$tools" --target-dir "$tools/build" cargo-fuzz --version "$version"
        rm -rf "$tools/build"
    }
fi
# As `cargo fuzz …` calls it.
exec "$fuzz" fuzz "$@"
