#!/usr/bin/env python3
"""The table of scripts/growth.sh: `growth-table.py RUN_FOLDER RESULTS TENANTS KEYS KEYS_ELSEWHERE LEAVES`."""

import glob
import json
import os
import re
import statistics
import sys
import time

out, results, tenants, keys, elsewhere, leaves = sys.argv[1:7]
grew = {
    "same": "nothing",
    "tenants": f"+ {tenants} tenants",
    "keys": f"+ {keys} keys",
    "elsewhere": f"+ {elsewhere} others' keys",
    "leaves": f"+ {leaves} leaves",
}

pairs = {}
for path in glob.glob(f"{out}/pair-*.json"):
    name = re.fullmatch(r"pair-(\w+)-(\d+x\d+)-(\d+)-(small|grown)\.json", os.path.basename(path))
    with open(path) as f:
        pairs.setdefault((name[1], name[2]), {}).setdefault(int(name[3]), {})[name[4]] = json.load(f)

print(f"\n{'grown by':<22} {'callers x batch':>16} {'small/s':>8} {'grown/s':>8} {'ratio':>7}   lowest to highest of the pairs")
print("-" * 100)
table = []
for step in grew:
    for (s, load), found in sorted(pairs.items()):
        if s != step:
            continue
        ratios = [p["grown"]["per_second"] / p["small"]["per_second"] for _, p in sorted(found.items())]
        median = {w: statistics.median(p[w]["per_second"] for p in found.values()) for w in ("small", "grown")}
        row = {
            "step": step, "load": load, "small_per_second": median["small"], "grown_per_second": median["grown"],
            "ratio": statistics.median(ratios), "ratios": ratios,
        }
        table.append(row)
        print(f"{grew[step]:<22} {load:>16} {median['small']:>8.0f} {median['grown']:>8.0f} {row['ratio']:>7.2f}   "
              f"{min(ratios):.2f} to {max(ratios):.2f}")
print("-" * 100)
print("Each line adds to the ones above it. The small service takes part in every pair, so a machine that drifts shows in both.")
with open(results, "w") as f:
    json.dump({
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "cores": os.cpu_count(),
        "tenants": int(tenants), "keys": int(keys), "keys_elsewhere": int(elsewhere), "leaves": int(leaves), "pairs": table,
    }, f, indent=1)
print(f"\nAlso in {results}.")
