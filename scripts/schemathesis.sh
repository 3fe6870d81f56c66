#!/usr/bin/env bash
# Installs schemathesis into target/third-party/schemathesis, every file by its hash
# (tests/contract/requirements.txt), and prints the Python that has it.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=target/third-party/schemathesis
wanted=$(sha256sum tests/contract/requirements.txt | cut -d' ' -f1)
if [ "$(cat "$folder/installed" 2>/dev/null)" != "$wanted" ]; then
    rm -rf "$folder"
    python3 -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
        --only-binary :all: -r tests/contract/requirements.txt >&2
    echo "$wanted" >"$folder/installed"
fi
echo "$folder/bin/python"
