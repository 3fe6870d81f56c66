#!/usr/bin/env bash
# Fetches somebody else's Windows executables to sign: the launchers inside the PyPI package
# `distlib`. They are not ours to ship, so they go to target/third-party/distlib. Prints the folder.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=target/third-party
if [ ! -e "$folder/distlib/t64.exe" ]; then
    mkdir -p "$folder"
    if ! ls "$folder"/distlib-*.whl >/dev/null 2>&1; then
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
            -d "$folder" distlib >&2
    fi
    python3 - "$folder" <<'PY'
import glob, os, sys, zipfile
folder = sys.argv[1]
os.makedirs(folder + "/distlib", exist_ok=True)
with zipfile.ZipFile(sorted(glob.glob(folder + "/distlib-*.whl"))[-1]) as wheel:
    for name in wheel.namelist():
        if name.endswith(".exe"):
            path = folder + "/distlib/" + os.path.basename(name)
            with open(path + ".part", "wb") as out:
                out.write(wheel.read(name))
            os.replace(path + ".part", path)
PY
fi
echo "$folder/distlib"
