"""A bill of materials (CycloneDX 1.5) of what is linked into the given packages, from `cargo metadata` and Cargo.lock.

    python3 scripts/sbom.py PACKAGE…
"""

import json
import os
import subprocess
import sys
from datetime import datetime, timezone


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def main():
    metadata = json.loads(
        subprocess.run(
            ["cargo", "metadata", "--locked", "--offline", "--format-version=1", "--filter-platform=x86_64-unknown-linux-gnu"],
            check=True, capture_output=True, text=True,
        ).stdout
    )
    packages = {p["id"]: p for p in metadata["packages"]}
    nodes = {n["id"]: n for n in metadata["resolve"]["nodes"]}
    # Checksums stand in the lock file.
    checksums, entry = {}, {}
    for line in open("Cargo.lock"):
        if line.startswith("[["):
            entry = {}
        elif " = " in line:
            key, value = line.strip().split(" = ", 1)
            entry[key] = value.strip('"')
            if key == "checksum":
                checksums[entry["name"], entry["version"]] = entry[key]

    roots = [p["id"] for p in metadata["packages"] if p["name"] in sys.argv[1:]]
    if len(roots) != len(sys.argv) - 1:
        sys.exit(f"no such package among {sys.argv[1:]}")
    reached, open_ = set(), list(roots)
    linked = {}
    while open_:
        id_ = open_.pop()
        if id_ in reached:
            continue
        reached.add(id_)
        # What is linked or runs while building, not what only tests use.
        linked[id_] = [d["pkg"] for d in nodes[id_]["deps"] if any(k["kind"] != "dev" for k in d["dep_kinds"])]
        open_ += linked[id_]

    def component(id_):
        p = packages[id_]
        c = {"type": "application" if id_ in roots else "library", "bom-ref": purl(p), "name": p["name"],
             "version": p["version"], "purl": purl(p)}
        if p.get("license"):
            c["licenses"] = [{"expression": p["license"].replace("/", " OR ")}]
        if (p["name"], p["version"]) in checksums:
            c["hashes"] = [{"alg": "SHA-256", "content": checksums[p["name"], p["version"]]}]
        return c

    when = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), timezone.utc)
    ordered = sorted(reached, key=lambda i: (packages[i]["name"], packages[i]["version"]))
    print(json.dumps({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"timestamp": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
                     "component": {"type": "application", "name": "countersign", "version": packages[roots[0]]["version"]}},
        "components": [component(i) for i in ordered],
        "dependencies": [{"ref": purl(packages[i]), "dependsOn": sorted({purl(packages[d]) for d in linked[i]})} for i in ordered],
    }, indent=1))


main()
