"""Runs schemathesis against the running service of a test and judges: no 500, no answer outside the
document, and at least one 2xx for every operation of it. Called by tests/it/contract.rs:

    python run.py WORLD.json        SEED=n repeats a run (1 if not set); EXAMPLES=n generated requests for
                                    each operation, beside those that the document gives and its bounds
"""

import json
import os
import subprocess
import sys

import schemathesis

here = os.path.dirname(os.path.abspath(__file__))
world = json.load(open(sys.argv[1]))
seed = int(os.environ.get("SEED") or 1)
examples = int(os.environ.get("EXAMPLES") or 8)
config = os.path.join(world["folder"], "schemathesis.toml")
with open(config, "w") as out:
    out.write(
        """
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 502]

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
    str(examples),
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
print(f"contract: again with: SEED={seed} EXAMPLES={examples} make contract", flush=True)
ended = subprocess.run(command, cwd=world["folder"], env=environment)



def bootstrap():
    """Succeeds once in a deployment's life: at a service of its own, judged by the same checks."""
    fresh = world["fresh"]
    schema = schemathesis.openapi.from_path(os.path.join(here, "../../openapi/openapi.json"))
    body = {
        "credential": fresh["credential"],
        "issuer": world["people"],
        "subject": "olga",
        "audience": world["people_audience"],
        "ca_pem": fresh["issuer_ca"],
        "mfa": {"amr": ["mfa"]},
    }
    case = schema["/v1/bootstrap"]["POST"].Case(body=body, media_type="application/json")
    response = case.call(base_url=fresh["url"], verify=fresh["ca_file"])
    case.validate_response(response)
    return response.status_code


counts = json.load(open(world["counts"]))
row = counts["POST /v1/bootstrap"]
status = str(bootstrap())
row["asked"] += 1
row["2xx"] += status.startswith("2")
row["statuses"][status] = row["statuses"].get(status, 0) + 1
document = json.load(open(os.path.join(here, "../../openapi/openapi.json")))
operations = sorted(f"{m.upper()} {p}" for p, item in document["paths"].items() for m in item)
table = [f"{'2xx':>5} {'asked':>6}  operation"]
without = []
for operation in operations:
    row = counts.get(operation, {"asked": 0, "2xx": 0, "statuses": {}})
    statuses = " ".join(f"{s}×{n}" for s, n in sorted(row["statuses"].items()))
    table.append(f"{row['2xx']:>5} {row['asked']:>6}  {operation}   {statuses}")
    if not row["2xx"]:
        without.append(operation)
if without:
    table.append(f"no 2xx at all: {without}")
asked = sum(row["asked"] for row in counts.values())
table.append(
    f"contract: seed {seed}, {asked} requests: schemathesis ended with {ended.returncode}, "
    f"{len(without)} operations without a 2xx"
)
with open(world["table"], "w") as out:
    out.write("\n".join(table) + "\n")
sys.exit(ended.returncode or bool(without))
