"""Runs schemathesis against the running service of a test and judges: no 500, no answer outside the
document, and at least one 2xx for every operation of it. Called by tests/it/contract.rs:

    python run.py WORLD.json        SEED=… repeats a run; CONTRACT_SECONDS=… is its time, 150 if not set
"""

import json
import os
import random
import subprocess
import sys

here = os.path.dirname(os.path.abspath(__file__))
world = json.load(open(sys.argv[1]))
seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1, 2**31))
seconds = int(os.environ.get("CONTRACT_SECONDS") or 150)
config = os.path.join(world["folder"], "schemathesis.toml")
with open(config, "w") as out:
    out.write(
        """
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 502, 503]

[phases.coverage]
unexpected-methods = []

[phases.stateful]
enabled = false
"""
    )
environment = dict(os.environ, CONTRACT=sys.argv[1], CONTRACT_SEED=str(seed), SCHEMATHESIS_HOOKS="hooks", PYTHONPATH=here)
command = [
    os.path.join(os.path.dirname(sys.executable), "schemathesis"),
    "--config-file",
    config,
    "run",
    os.path.join(here, "../../openapi/openapi.json"),
    "--url",
    world["url"],
    "--tls-verify",
    world["ca_file"],
    "--seed",
    str(seed),
    "--workers",
    "1",
    "--max-examples",
    "20",
    "--max-time",
    str(seconds),
    "--request-timeout",
    "30",
    "--no-shrink",
    "--continue-on-failure",
    "--suppress-health-check",
    "all",
    "--warnings",
    "off",
    "--checks",
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance",
]
print(f"contract: seed {seed}, {seconds} s; again with: SEED={seed} make contract", flush=True)
ended = subprocess.run(command, cwd=world["folder"], env=environment)

counts = json.load(open(world["counts"]))
document = json.load(open(os.path.join(here, "../../openapi/openapi.json")))
operations = sorted(f"{m.upper()} {p}" for p, item in document["paths"].items() for m in item)
print(f"\n{'2xx':>5} {'asked':>6}  operation")
without = []
for operation in operations:
    row = counts.get(operation, {"asked": 0, "2xx": 0, "statuses": {}})
    statuses = " ".join(f"{s}×{n}" for s, n in sorted(row["statuses"].items()))
    print(f"{row['2xx']:>5} {row['asked']:>6}  {operation}   {statuses}")
    if not row["2xx"] and operation not in world["never"]:
        without.append(operation)
for operation, why in world["never"].items():
    print(f"not expected to succeed here: {operation}: {why}")
if without:
    print(f"no 2xx at all: {without}")
print(f"contract: seed {seed}: schemathesis ended with {ended.returncode}, {len(without)} operations without a 2xx")
sys.exit(ended.returncode or bool(without))
