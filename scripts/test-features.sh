#!/usr/bin/env bash
# The features that `make test` builds with, on standard output: one set for everything it builds. The crash tests need
# the failpoints, which release builds refuse to contain; a TPM's evidence needs libtss2 (Debian: libtss2-dev, pkg-config).
#
#   scripts/test-features.sh         all of them
#   scripts/test-features.sh demo    those that `make demo` builds with: the TPM's evidence alone, or nothing
set -euo pipefail
features=countersign-server/failpoints,countersign-hsm-worker/failpoints
[ "${1:-}" != demo ] || features=
if pkg-config --exists 'tss2-sys >= 2.4.6' 'tss2-esys >= 2.4.6' tss2-tctildr tss2-mu 2>/dev/null; then
    features+=${features:+,}countersign-hsm-worker/tpm
else
    echo "WARNING: libtss2-dev or pkg-config is missing (scripts/need.sh test): the TPM adapter is NOT built and NOT tested" >&2
fi
echo "$features"
