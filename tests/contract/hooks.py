"""Gives schemathesis what the document alone cannot: real tokens of every role, real ids, bodies that
succeed. Everything else stays as generated. Counts the 2xx answers of each operation.

Reads CONTRACT (a JSON file that tests/it/contract.rs writes); choices follow CONTRACT_SEED and the
number of the request, so a run is repeated by its seed.
"""

import base64
import json
import os
import random
import subprocess
import textwrap
import time

import requests
import schemathesis

WORLD = json.load(open(os.environ["CONTRACT"]))
COUNTS = WORLD["counts"]
SEED = int(os.environ["CONTRACT_SEED"])
ROLES = ["operator", "admin", "auditor", "job", "stranger", "nobody"]
TENANT, SIGNER = WORLD["tenant"], WORLD["signer"]
OPERATOR_ONLY = {"GET /v1/devices", "GET /v1/tenants", "POST /v1/tenants"}
SIGNATURES = "POST /v1/tenants/{tenant}/signers/{signer}/signatures"
JOBS_ONLY = {
    SIGNATURES,
    "GET /v1/tenants/{tenant}/signers/{signer}/certificate",
}

session = requests.Session()
# Or the environment's bundle of roots would win over ours.
session.trust_env = False
session.verify = WORLD["ca_file"]
tokens = {}
asked = 0
unique = 0
counts = {}


def mint(sub, audience, claims=(), amr=(), state=None):
    command = [WORLD["testkit"], "issuer", "mint", "--state", state or WORLD["people_state"], "--sub", sub, "--aud", audience]
    for name, value in claims:
        command += ["--claim", f"{name}={value}"]
    for method in amr:
        command += ["--amr", method]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def job_token(repository=None):
    claims = [("repository_id", repository or WORLD["repository"]), ("environment", "release"), ("event_name", "push")]
    return mint("repo:any/app:environment:release", WORLD["job_audience"], claims, state=WORLD["platform_state"])


def exchange(id_token, tenant):
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "subject_token": id_token,
    }
    if tenant:
        form["tenant"] = tenant
    answer = session.post(WORLD["url"] + "/v1/token", data=form)
    answer.raise_for_status()
    return answer.json()["access_token"]


def token(role):
    """A service token of a role; `None` for nobody. Renewed before its five minutes are over."""
    if role == "nobody":
        return None
    known = tokens.get(role)
    if known and time.monotonic() - known[1] < 200:
        return known[0]
    people = WORLD["people_audience"]
    if role == "operator":
        made = exchange(mint("olga", people, amr=["mfa"]), None)
    elif role == "job":
        made = exchange(job_token(), TENANT)
    elif role == "stranger":
        # Somebody's administrator, of another tenant.
        made = exchange(mint(WORLD["stranger"], people, amr=["mfa"]), WORLD["other_tenant"])
    else:
        made = exchange(mint(WORLD[role], people, amr=["mfa"]), TENANT)
    tokens[role] = (made, time.monotonic())
    return made


def fresh(prefix):
    global unique
    unique += 1
    return f"{prefix}-{unique}"


def api(method, path, body=None, role="admin"):
    headers = {"authorization": "Bearer " + token(role)}
    answer = session.request(method, WORLD["url"] + path, json=body, headers=headers)
    answer.raise_for_status()
    return answer.json() if answer.content else None


def own(path):
    return f"/v1/tenants/{TENANT}{path}"


def new_grant():
    return {
        "signer": SIGNER,
        "issuer": WORLD["platform"],
        "claims": {"repository_id": fresh("r")},
        "content_types": ["cms"],
        "digest_algorithms": ["sha-256"],
    }


def made_grant():
    return {"path": {"grant": api("POST", own("/grants"), new_grant())["id"]}}


def removable_grants():
    """The job's own grant stays; what generated requests added goes, before a cap is met."""
    grants = api("GET", own("/grants"))
    for grant in grants:
        if len(grants) > 100 and grant["id"] != WORLD["grant"]:
            api("DELETE", own(f"/grants/{grant['id']}"))


def made_issuer():
    issuer = f"https://{fresh('i')}.example"
    api("POST", own("/issuers"), {"issuer": issuer, "kind": "pipelines", "audience": "x"})
    return {"query": {"issuer": issuer}}


def new_member():
    return {"issuer": WORLD["people"], "subject": fresh("person"), "role": "auditor"}


def made_member():
    member = new_member()
    api("POST", own("/members"), member)
    return {"body": member}


def made_key(appraised=False, suspended=False):
    key = api("POST", own(f"/signers/{WORLD['spare']}/keys"))["id"]
    if appraised:
        api("POST", own(f"/keys/{key}/appraise"))
    return {"path": {"key": key}}


SUBJECT = {"common_name": "Acme Inc.", "organization": "Acme Inc.", "country": "US", "locality": "Springfield"}

def at_the_ca(path, body):
    answer = session.post(WORLD["ca"]["url"] + path, json=body, verify=WORLD["ca"]["ca_file"])
    answer.raise_for_status()
    return answer.json()


def certified_key():
    """A key, and the chain that a CA gave for its request: carried there and back by hand."""
    key = made_key(appraised=True)["path"]["key"]
    order = at_the_ca("/orders", {"subscriber": TENANT})
    wish = {"ca_audience": WORLD["ca"]["audience"], "reference": order["order"], "nonce": order["nonce"], "subject": SUBJECT}
    exported = api("POST", own(f"/keys/{key}/csr"), wish)
    csr = "".join(line for line in exported["csr_pem"].splitlines() if not line.startswith("-"))
    issued = at_the_ca(f"/orders/{order['order']}/request", {"csr": csr, "statement": exported["statement"]})
    chain = "".join(map(pem, issued["chain"]))
    return {"path": {"key": key}, "body": {"chain_pem": chain}}


def pem(certificate):
    lines = "\n".join(textwrap.wrap(certificate, 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"


# For each operation that needs more than real ids: how to succeed.
RECIPES = {
    "POST /v1/token": lambda: {
        "body": {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
            "subject_token": job_token(),
            "tenant": TENANT,
        }
    },
    "POST /v1/tenants": lambda: {
        "body": {"name": fresh("t"), "admin": {"issuer": WORLD["people"], "subject": "ada"}, "allow_software": True}
    },
    "POST /v1/tenants/{tenant}/signers": lambda: {"body": {"signer": fresh("s"), "algorithm": "ec-p256"}},
    "POST /v1/tenants/{tenant}/signers/{signer}/keys": lambda: {"path": {"signer": WORLD["spare"]}},
    "POST /v1/tenants/{tenant}/signers/{signer}/signatures": lambda: {"body": WORLD["signature_body"]},
    "POST /v1/tenants/{tenant}/grants": lambda: (removable_grants(), {"body": new_grant()})[1],
    "DELETE /v1/tenants/{tenant}/grants/{grant}": made_grant,
    "POST /v1/tenants/{tenant}/grants/explain": lambda: {"body": {"token": job_token(), "signer": SIGNER}},
    "POST /v1/tenants/{tenant}/issuers": lambda: {
        "body": {"issuer": f"https://{fresh('j')}.example", "kind": "pipelines", "audience": "x"}
    },
    "DELETE /v1/tenants/{tenant}/issuers": made_issuer,
    "POST /v1/tenants/{tenant}/members": lambda: {"body": new_member()},
    "DELETE /v1/tenants/{tenant}/members": made_member,
    "PUT /v1/tenants/{tenant}/policy": lambda: {"body": {"allow_software": True, "require_mfa": True}},
    "POST /v1/tenants/{tenant}/keys/{key}/events": lambda: {
        **made_key(appraised=True),
        "body": {"event": "retire", "reason": "a test"},
    },
    "POST /v1/tenants/{tenant}/keys/{key}/appraise": made_key,
    "POST /v1/attestations/verify": lambda: {"body": WORLD["verification_body"]},
    "POST /v1/tenants/{tenant}/keys/{key}/evidence": lambda: {"body": WORLD["evidence_body"]},
    "POST /v1/tenants/{tenant}/keys/{key}/csr": lambda: {
        **made_key(appraised=True),
        "body": {"ca_audience": "ca.example", "subject": SUBJECT},
    },
    "POST /v1/tenants/{tenant}/keys/{key}/certificate": certified_key,
    "POST /v1/tenants/{tenant}/keys/{key}/orders": lambda: {
        **made_key(appraised=True),
        "body": {"ca": "demo", "subject": SUBJECT},
    },
    "GET /v1/tenants/{tenant}/logs/{log}/details": lambda: {"query": {"from": 0, "limit": 10}},
}
# What all other operations stand on: generated values must not change it. schemathesis learns values
# from answers, so it does come upon the names of real issuers and people.
PILLARS = {WORLD["people"], WORLD["platform"], WORLD["admin"], WORLD["auditor"]}
POLICY = "PUT /v1/tenants/{tenant}/policy"
PEOPLE = {
    "POST /v1/tenants/{tenant}/issuers",
    "DELETE /v1/tenants/{tenant}/issuers",
    "POST /v1/tenants/{tenant}/members",
    "DELETE /v1/tenants/{tenant}/members",
}
# Generated bodies, and objects of their own for them.
SPARES = {
    "DELETE /v1/tenants/{tenant}/grants/{grant}": made_grant,
    "POST /v1/tenants/{tenant}/keys/{key}/events": lambda: made_key(appraised=True),
}


def texts(value):
    """All texts in a value."""
    if isinstance(value, dict):
        return set().union(*map(texts, value.values())) if value else set()
    if isinstance(value, list):
        return set().union(*map(texts, value)) if value else set()
    return {value} if isinstance(value, str) else set()


def harmful(operation, case):
    if operation == POLICY:
        return True
    return operation in PEOPLE and bool(PILLARS & (texts(case.body) | texts(dict(case.query or {}))))


def label(case):
    return f"{case.method.upper()} {case.path}"


@schemathesis.hook
def before_call(context, case, kwargs):
    global asked
    asked += 1
    operation = label(case)
    dice = random.Random(f"{SEED}/{asked}")
    able = "operator" if operation in OPERATOR_ONLY else "job" if operation in JOBS_ONLY else "admin"
    role = able if dice.random() < 0.6 else dice.choice(ROLES)
    real = dice.random() < 0.7
    if real and case.path_parameters:
        for name in case.path_parameters:
            if name in WORLD["ids"]:
                case.path_parameters[name] = WORLD["ids"][name]
    recipe = RECIPES.get(operation)
    if recipe and dice.random() < 0.4:
        role = able
        for name in case.path_parameters or {}:
            case.path_parameters[name] = WORLD["ids"][name]
        for part, values in recipe().items():
            if part == "path":
                case.path_parameters.update(values)
            elif part == "query":
                case.query = dict(values)
            else:
                case.body = values
                if not case.media_type:
                    case.media_type = "application/json"
    elif role == "admin" and harmful(operation, case):
        role = "auditor"
    elif role == "admin" and operation in SPARES and any(
        case.path_parameters.get(name) == WORLD["ids"][name] for name in ("grant", "key")
    ):
        case.path_parameters.update(SPARES[operation]()["path"])
    case.headers = dict(case.headers or {})
    bearer = token(role)
    if bearer:
        case.headers["Authorization"] = "Bearer " + bearer
    else:
        case.headers.pop("Authorization", None)


def succeeded(case, response):
    if label(case) == SIGNATURES and response.status_code == 200:
        # 200 means that each item was decided (ADR 8); here it counts if one was signed.
        return any("signature" in result for result in response.json()["results"])
    return 200 <= response.status_code < 300 or response.status_code == 304


@schemathesis.hook
def after_call(context, case, response):
    row = counts.setdefault(label(case), {"asked": 0, "2xx": 0, "statuses": {}})
    row["asked"] += 1
    row["2xx"] += succeeded(case, response)
    status = str(response.status_code)
    row["statuses"][status] = row["statuses"].get(status, 0) + 1
    if asked % 50 == 0:
        write_counts()


def write_counts():
    with open(COUNTS + ".part", "w") as out:
        json.dump(counts, out)
    os.replace(COUNTS + ".part", COUNTS)


import atexit

atexit.register(write_counts)
