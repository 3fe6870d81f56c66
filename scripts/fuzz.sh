#!/usr/bin/env bash
# Fuzzes each parser of foreign bytes for some seconds, from the seed corpus that the tests keep.
#
#   scripts/fuzz.sh [SECONDS]      default 30
#
# Needs cargo-fuzz (cargo install cargo-fuzz). libFuzzer's instrumentation is a nightly feature;
# RUSTC_BOOTSTRAP lets the stable toolchain use it, for this build alone.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-30}
command -v cargo-fuzz >/dev/null 2>&1 || {
    echo "fuzz: cargo-fuzz is missing. Install it with: cargo install cargo-fuzz" >&2
    exit 1
}
export RUSTC_BOOTSTRAP=1
for target in $(cargo fuzz list); do
    echo "fuzz: $target for $seconds s"
    # What is found goes to target/; the kept corpus is only read.
    mkdir -p "target/fuzz/$target"
    cargo fuzz run "$target" "target/fuzz/$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -rss_limit_mb=2048
done
