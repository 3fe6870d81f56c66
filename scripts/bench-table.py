#!/usr/bin/env python3
"""The table of scripts/bench.sh: `bench-table.py RUN_FOLDER RESULTS CORES SECONDS`."""

import glob
import json
import os
import platform
import re
import statistics
import sys
import time

out, results, cores, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


def read(path):
    with open(path) as f:
        return json.load(f)


raw = {when: [read(p) for p in glob.glob(f"{out}/raw-{when}-*.json")] for when in ("before", "after")}
rows = []
for path in glob.glob(f"{out}/load-*.json"):
    name = re.fullmatch(r"load-(\w+)-(.+)-(\d+x\d+)-(\d+)(-no-key)?\.json", os.path.basename(path))
    rows.append(read(path) | {"database": name[1], "round": int(name[4])})
cpu = next(
    (l.split(":", 1)[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine()
)


def mean(key, what):
    return statistics.fmean(r[what]["per_second"] for when in raw for r in raw[when] if r["algorithm"] == key)


def group(row):
    return (row["signer"], not row["idempotency_key"], row["batch"], row["callers"], row["database"])


for r in rows:
    r["share_of_raw"] = r["per_second"] / mean(r["signer"], "sign")
    r["share_of_raw_verified"] = r["per_second"] / mean(r["signer"], "sign_and_verify")

print(f"\n{cpu}, {cores} cores, {platform.system()} {platform.release()}\n")
head = "{:<10} {:<9} {:>7} {:>6} {:>8} {:>8} {:>8} {:>10} {:>12}   {}"
print(head.format("key", "database", "callers", "batch", "sign/s", "p50 ms", "p99 ms", "of C_Sign", "of +verify", ""))
print("-" * 140)
for which in sorted({group(r) for r in rows}):
    # Of several rounds the median stands; the JSON has them all.
    r = sorted((r for r in rows if group(r) == which), key=lambda r: r["per_second"])
    r = r[len(r) // 2]
    used = ", ".join(f"{n} {us}" for n, us in r["cpu_us_per_signature"].items())
    note = f"{r['authorisations_per_commit']:g} a commit; CPU µs: {used}"
    if not r["idempotency_key"]:
        note = "no Idempotency-Key; " + note
    print(
        head.format(
            r["signer"], r["database"], r["callers"], r["batch"], r["per_second"],
            f"{r['p50_us'] / 1000:.2f}", f"{r['p99_us'] / 1000:.2f}",
            f"{r['share_of_raw']:.0%}", f"{r['share_of_raw_verified']:.0%}", note,
        )
    )
print("-" * 140)
for key in dict.fromkeys(r["signer"] for r in sorted(rows, key=group)):
    for what, name in (("sign", "raw C_Sign"), ("sign_and_verify", "raw C_Sign and verify")):
        both = [next(r[what] for r in raw[when] if r["algorithm"] == key) for when in ("before", "after")]
        print("{:<10} {:<24} {}".format(key, name, "; ".join(
            f"{when} {b['per_second']}/s, p50 {b['p50_us'] / 1000:.3f} ms, p99 {b['p99_us'] / 1000:.3f} ms"
            for when, b in zip(("before", "after"), both))))
print("""
"a commit" is how many authorisations shared one commit of the log. Times are those of whole requests
in a closed loop. The callers share the cores with the service: a client elsewhere leaves it more room.""")
with open(results, "w") as f:
    json.dump(
        {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "cpu": cpu, "cores": cores,
            "system": f"{platform.system()} {platform.release()}", "seconds_per_row": seconds,
            "service": sorted(rows, key=lambda r: (group(r), r["round"])), "raw": raw,
        },
        f, indent=1,
    )
print(f"\nAlso in {results}.")
