#!/usr/bin/env bash
# Fuzzes each parser of foreign bytes for some seconds, from the seed corpus that the tests keep.
#
#   scripts/fuzz.sh [SECONDS]      default 30
#   ONLY=text scripts/fuzz.sh 600  the targets whose name has that text
#
# Gets cargo-fuzz where it is missing. libFuzzer's instrumentation is a nightly feature;
# RUSTC_BOOTSTRAP lets the stable toolchain use it, for this build alone.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-30}
export RUSTC_BOOTSTRAP=1
ran=0
for target in $(scripts/cargo-fuzz.sh list); do
    [[ "$target" == *"${ONLY:-}"* ]] || continue
    echo "fuzz: $target for $seconds s"
    # What is found goes to target/; the kept corpus is only read.
    mkdir -p "target/fuzz/$target"
    scripts/cargo-fuzz.sh run "$target" "target/fuzz/$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1
    ran=$((ran + 1))
done
[ "$ran" -gt 0 ] || { echo "fuzz: no target has \"${ONLY:-}\" in its name" >&2; exit 1; }
echo "fuzz: $ran targets, no finding"
