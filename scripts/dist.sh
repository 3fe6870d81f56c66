#!/usr/bin/env bash
# Release binaries with checksums and a bill of materials, in dist/. The same source, toolchain and SOURCE_DATE_EPOCH give the
# same bytes.
#
#   scripts/dist.sh             build
#   scripts/dist.sh --dry-run   print what would be run, and make everything but the binaries
set -euo pipefail
cd "$(dirname "$0")/.."

dry=
[ "${1:-}" = --dry-run ] && dry=1
out=${DIST_OUT:-$PWD/dist}
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
host=$(rustc -vV | sed -n 's/^host: //p')
musl=${host%-gnu}-musl
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export CARGO_INCREMENTAL=0 LC_ALL=C TZ=UTC
target=${CARGO_TARGET_DIR:-$PWD/target}
registry=${CARGO_HOME:-$HOME/.cargo}
# No path of this machine in a binary: those of the C libraries that build scripts compile are cut, too.
remap="--remap-path-prefix=$PWD=/src --remap-path-prefix=$registry=/cargo --remap-path-prefix=$target=/target --remap-path-prefix=$(rustc --print sysroot)=/rust"
c_flags="-ffile-prefix-map=$registry=/cargo -ffile-prefix-map=$target=/target -ffile-prefix-map=$PWD=/src"

run() { echo "+ $*"; [ -n "$dry" ] || "$@"; }
say() { echo "dist: $*"; }

# How the command line may be linked, best first: it runs on subscribers' machines and in CI images of every kind, and
# loads nothing.
ways=(dynamic)
[ -f "$(cc -print-file-name=libc.a)" ] && ways=(glibc "${ways[@]}")
installed=$(rustup target list --installed 2>/dev/null || true)
if grep -qx "$musl" <<<"$installed" && command -v musl-gcc >/dev/null 2>&1; then
    ways=(musl "${ways[@]}")
else
    say "no musl: rustup target add $musl; apt-get install musl-tools"
fi
say "countersignd, countersign-hsm-worker: dynamic: the worker loads PKCS#11 modules (dlopen), and a static program cannot"

rm -rf "$out"
mkdir -p "$out"
common=(--locked --release)
run env RUSTFLAGS="$remap" CFLAGS="$c_flags" cargo build "${common[@]}" --target "$host" \
    --package countersign-server --package countersign-hsm-worker
for way in "${ways[@]}"; do
    cli_target=$host cli_flags=$remap
    case $way in
    musl) cli_target=$musl cli_linked="static (musl)" ;;
    glibc) cli_flags="$remap -C target-feature=+crt-static" cli_linked="static (glibc: host names by files and DNS alone)" ;;
    dynamic) cli_linked="dynamic: needs this machine's glibc or a newer one" ;;
    esac
    run env RUSTFLAGS="$cli_flags" CFLAGS="$c_flags" "CC_${musl//-/_}=musl-gcc" cargo build "${common[@]}" \
        --target "$cli_target" --package countersign-cli && break
    say "countersign cannot be linked as $way here"
    cli_linked=
done
[ -n "$cli_linked" ] || { say "countersign was not built"; exit 1; }
say "countersign: $cli_linked"

for program in countersignd countersign-hsm-worker countersign; do
    from=$target/$host/release/$program
    [ "$program" = countersign ] && from=$target/$cli_target/release/$program
    run install -m 755 "$from" "$out/$program"
    run strip --strip-all "$out/$program"
done

# Everything else that a package needs, so that one archive is enough.
mkdir -p "$out/systemd" "$out/hsm-config"
cp -r packaging/systemd/. "$out/systemd/"
cp -r hsm-config/. "$out/hsm-config/"
cp LICENSE "$out/"
python3 scripts/sbom.py countersign-server countersign-hsm-worker countersign-cli >"$out/countersign-$version.cdx.json"
cat >"$out/BUILD" <<TXT
version $version
source $(git rev-parse HEAD 2>/dev/null || echo unknown)
SOURCE_DATE_EPOCH $SOURCE_DATE_EPOCH
rustc $(rustc -V)
cc $(cc --version | head -n 1)
countersign $cli_linked
countersignd dynamic
countersign-hsm-worker dynamic
TXT
find "$out" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
(cd "$out" && find . -type f ! -name SHA256SUMS -printf '%P\n' | sort | xargs -d '\n' sha256sum >SHA256SUMS)
touch --date="@$SOURCE_DATE_EPOCH" "$out/SHA256SUMS"
say "$out:"
ls -l "$out"
