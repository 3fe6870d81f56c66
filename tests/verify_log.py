#!/usr/bin/env python3
"""Verifies a downloaded log, independently of Countersign's own code.

A second implementation of docs/log-format.md: Python's standard library alone, no server, no
network. The folder holds what `countersign log download` writes:

    checkpoint          the signed head
    tile/...            tlog-tiles: entry bundles and hash tiles
    vkey                the log's verifier keys, one a line (or give --vkey, which you pinned yourself)
    details.ndjson      openings of the commitments (optional)

Exit codes: 0 everything holds; 1 something is wrong; 2 something could not be checked.
"""

import argparse
import base64
import binascii
import hashlib
import json
import os
import re
import sys

# --- Ed25519 verification (RFC 8032 section 5.1.7), straight from the definitions ----------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_MINUS_1 = pow(2, (P - 1) // 4, P)


def point_add(a, b):
    """Extended coordinates (RFC 8032 section 5.1.4)."""
    e = (a[1] - a[0]) * (b[1] - b[0]) % P
    f = (a[1] + a[0]) * (b[1] + b[0]) % P
    g = 2 * a[3] * b[3] * D % P
    h = 2 * a[2] * b[2] % P
    e, f, g, h = f - e, h - g, h + g, f + e
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def point_mul(scalar, point):
    result = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = point_add(result, point)
        point = point_add(point, point)
        scalar >>= 1
    return result


def point_decode(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * SQRT_MINUS_1 % P
    if (x * x - x2) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


BASE = point_decode((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def ed25519_verifies(public_key, message, signature):
    if len(public_key) != 32 or len(signature) != 64:
        return False
    a, r = point_decode(public_key), point_decode(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public_key + message).digest(), "little") % L
    left, right = point_mul(s, BASE), point_add(r, point_mul(k, a))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (
        left[1] * right[2] - right[1] * left[2]
    ) % P == 0


# --- The tree (RFC 6962 section 2.1) --------------------------------------------------------------


def sha256(data):
    return hashlib.sha256(data).digest()


def leaf_hash(entry):
    return sha256(b"\x00" + entry)


def node_hash(left, right):
    return sha256(b"\x01" + left + right)


def root_of(hashes):
    """MTH, by halves of the largest power of two."""
    if not hashes:
        return sha256(b"")
    if len(hashes) == 1:
        return hashes[0]
    k = 1 << ((len(hashes) - 1).bit_length() - 1)
    return node_hash(root_of(hashes[:k]), root_of(hashes[k:]))


def root_from_inclusion(index, size, node, proof):
    """RFC 9162 section 2.1.3.2; None if the proof has the wrong length."""
    if index >= size:
        return None
    fn, sn = index, size - 1
    for sibling in proof:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            node = node_hash(sibling, node)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = node_hash(node, sibling)
        fn, sn = fn >> 1, sn >> 1
    return node if sn == 0 else None


# --- Notes and checkpoints ------------------------------------------------------------------------


class Bad(Exception):
    """What was checked is wrong."""


def b64(text):
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as e:
        raise Bad(f"not base64: {e}") from e
    if base64.b64encode(raw).decode() != text:
        raise Bad("base64 in a second spelling")
    return raw


def read_vkey(vkey):
    try:
        name, key_id, key = vkey.strip().split("+", 2)
    except ValueError as e:
        raise Bad("a verifier key is name+id+base64") from e
    key = b64(key)
    if len(key) != 33 or key[0] != 1:
        raise Bad("the verifier key is not Ed25519")
    if sha256(name.encode() + b"\n" + key)[:4].hex() != key_id:
        raise Bad("the verifier key's id is not that of its key")
    return name, bytes.fromhex(key_id), key[1:]


def open_checkpoint(note, vkeys):
    """(origin, size, root) if a key named as the origin signed it."""
    text, blank, lines = note.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise Bad("the checkpoint has no signatures")
    text += "\n"
    signers = set()
    for line in lines[:-1].split("\n"):
        match = re.fullmatch("\u2014 ([^ +]+) (\\S+)", line)
        if not match:
            raise Bad("malformed signature line")
        blob = b64(match[2])
        for name, key_id, key in vkeys:
            if name == match[1] and key_id == blob[:4]:
                if not ed25519_verifies(key, text.encode(), blob[4:]):
                    raise Bad(f"the signature by {name} does not verify")
                signers.add(name)
    match = re.fullmatch("([^\n]+)\n(0|[1-9][0-9]*)\n([A-Za-z0-9+/=]+)\n", text)
    if not match:
        raise Bad("malformed checkpoint")
    if match[1] not in signers:
        raise Bad("no known key of the log signed the checkpoint")
    root = b64(match[3])
    if len(root) != 32:
        raise Bad("the checkpoint's root is not 32 bytes")
    return match[1], int(match[2]), root


# --- Leaves (docs/log-format.md, "Leaves") --------------------------------------------------------

HEX = re.compile("[0-9a-f]{64}")


def is_hash(v):
    return isinstance(v, str) and HEX.fullmatch(v) is not None


def is_text(v):
    return isinstance(v, str) and len(v.encode()) <= 1024


def is_number(v):
    return type(v) is int and 0 <= v < 2**64


def is_flag(v):
    return type(v) is bool


def one_of(*words):
    return lambda v: v in words


def list_of(item):
    return lambda v: isinstance(v, list) and len(v) <= 256 and all(map(item, v))


def object_of(*members):
    return lambda v: isinstance(v, dict) and fits(list(v.items()), members)


def fits(items, members):
    """Whether the items are exactly these members in this order; `name?` may be absent."""
    items = list(items)
    for name, kind in members:
        if items and items[0][0] == name.rstrip("?"):
            if not kind(items.pop(0)[1]):
                return False
        elif not name.endswith("?"):
            return False
    return not items


KEY = object_of(
    ("id", is_text), ("algorithm", is_text), ("spki_sha256", is_hash), ("software", is_flag),
    ("isolation", is_text),
)
PREVIOUS = object_of(
    ("origin", is_text), ("size", is_number), ("root", is_hash), ("missing", is_number)
)

# Members after v, type, time (and request, by), in order.
SCHEMA = {
    "log-opened": [("tenant", is_text), ("key?", KEY), ("previous?", PREVIOUS)],
    "authorisation": [
        ("tenant", is_text), ("signer", is_text), ("key", is_text), ("request", is_text),
        ("attempt", is_number), ("repeats?", is_number),
        ("purpose", one_of("signature", "certificate-request")), ("scheme", is_text),
        ("content", one_of("authenticode", "cms", "raw-digest", "certificate-request")),
        ("asserted", one_of("typed", "digest-only")), ("tbs", is_hash), ("artifact?", is_hash),
        ("caller", is_hash), ("node", is_text), ("epoch", is_number),
    ],
    "outcome": [
        ("of", is_number), ("result", one_of("signed", "failed", "unknown")),
        ("signature_sha256?", is_hash), ("reason?", is_text),
    ],
    "tenant-created": [("tenant", is_text), ("name", is_text)],
    "issuer-registered": [("issuer", is_text), ("kind", is_text), ("audience", is_text)],
    "issuer-removed": [("issuer", is_text)],
    "member-added": [("issuer", is_text), ("subject", is_hash), ("role", is_text)],
    "member-removed": [("issuer", is_text), ("subject", is_hash), ("role", is_text)],
    "policy-set": [
        ("allow_software", is_flag), ("require_mfa", is_flag), ("evidence?", list_of(is_text)),
    ],
    "token-created": [
        ("token", is_text), ("manufacturer", is_text), ("model", is_text), ("serial", is_text),
        ("software", is_flag), ("isolation", is_text), ("log_vkey", is_text),
    ],
    "signer-created": [("signer", is_text), ("algorithm", is_text)],
    "key-generated": [
        ("key", is_text), ("signer", is_text), ("algorithm", is_text), ("spki_sha256", is_hash),
        ("software", is_flag), ("isolation", is_text), ("log_origin", is_text),
    ],
    "evidence-added": [
        ("key", is_text), ("result", is_text), ("formats", list_of(is_text)),
        ("evidence", list_of(is_hash)), ("result_sha256", is_hash), ("detail?", is_hash),
    ],
    "key-appraised": [
        ("key", is_text), ("result", is_text), ("evidence", list_of(is_hash)),
        ("statement?", is_hash),
    ],
    "key-state": [("key", is_text), ("from", is_text), ("to", is_text), ("reason?", is_text)],
    "certificate-requested": [
        ("key", is_text), ("order", is_text), ("ca", is_text), ("csr_sha256", is_hash),
        ("statement_sha256", is_hash), ("evidence?", list_of(is_hash)),
    ],
    "certificate-refused": [
        ("key", is_text), ("certificate_sha256", is_hash), ("reason", is_text)
    ],
    "order-failed": [("key", is_text), ("order", is_text), ("ca", is_text), ("reason", is_text)],
    "certificate-installed": [
        ("key", is_text), ("certificate_sha256", is_hash), ("serial", is_text),
        ("not_before", is_number), ("not_after", is_number), ("issuer", is_text),
    ],
    "certificate-status": [
        ("key", is_text), ("certificate_sha256", is_hash),
        ("status", one_of("good", "on-hold", "revoked")), ("revoked_at?", is_number),
        ("reason?", is_text), ("crl_number?", is_text), ("this_update", is_number),
    ],
    "certificate-ending": [
        ("key", is_text), ("certificate_sha256", is_hash), ("not_after", is_number)
    ],
    "grant-added": [("grant", is_text), ("signer", is_text), ("grant_sha256", is_hash)],
    "grant-removed": [("grant", is_text), ("signer", is_text)],
    "denied": [
        ("signer?", is_text), ("reason", is_text), ("count", is_number), ("detail?", is_hash)
    ],
    "content-refused": [
        ("signer", is_text), ("reason", is_text), ("count", is_number), ("detail?", is_hash)
    ],
    "key-checkpoint": [
        ("key", is_text), ("origin", is_text), ("size", is_number), ("root", is_hash)
    ],
    "worker-event": [("token", is_text), ("event", is_text), ("detail?", is_text)],
    "token-exchanged": [("issuer", is_text), ("caller", is_hash), ("signers", list_of(is_text))],
    "log-keys-changed": [("origin", is_text), ("vkeys", list_of(is_text)), ("reason", is_text)],
}
KEY_LOG_TYPES = {"log-opened", "authorisation", "outcome", "log-keys-changed"}
TENANT_LOG_TYPES = set(SCHEMA) - {"authorisation", "outcome"}


class Unknown(Exception):
    """A newer schema than this program's."""


def unique(pairs):
    if len({name for name, _ in pairs}) != len(pairs):
        raise Bad("a member stands twice")
    return dict(pairs)


def read_leaf(entry):
    try:
        leaf = json.loads(entry.decode(), object_pairs_hook=unique)
        again = json.dumps(leaf, ensure_ascii=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError) as e:
        raise Bad(f"not JSON: {e}") from e
    if not isinstance(leaf, dict):
        raise Bad("not a JSON object")
    if leaf.get("v") != 1 or leaf.get("type") not in SCHEMA:
        raise Unknown(f"version {leaf.get('v')!r}, type {leaf.get('type')!r}")
    if again != entry:
        raise Bad("not written canonically")
    kind = leaf["type"]
    members = [
        ("v", lambda v: v is not True and v == 1),
        ("type", is_text),
        ("time", lambda v: is_number(v) and v < 2**63),
    ]
    if kind != "authorisation":
        request = re.compile("[A-Za-z0-9._-]{1,64}")
        members += [
            ("request?", lambda v: is_text(v) and request.fullmatch(v)),
            ("by?", is_hash),
        ]
    if not fits(leaf.items(), members + SCHEMA[kind]):
        raise Bad(f"the members are not those of {kind}, or not in order")
    if kind == "authorisation":
        if leaf["attempt"] == 0 or leaf["attempt"] >= 2**32:
            raise Bad("attempt out of range")
        if (leaf["attempt"] > 1) != ("repeats" in leaf):
            raise Bad("attempt and repeats contradict each other")
        if (leaf["purpose"] == "certificate-request") != (leaf["content"] == "certificate-request"):
            raise Bad("purpose and content contradict each other")
        if (leaf["content"] == "raw-digest") != (leaf["asserted"] == "digest-only"):
            raise Bad("content and asserted contradict each other")
    if kind == "outcome" and (leaf["result"] == "signed") != ("signature_sha256" in leaf):
        raise Bad("result and signature_sha256 contradict each other")
    if kind == "certificate-status":
        for member in ("revoked_at", "reason"):
            if (leaf["status"] == "good") == (member in leaf):
                raise Bad(f"status and {member} contradict each other")
    return leaf


def commitment(label, salt, value):
    head = b"countersign/commitment/v1\x00" + len(label.encode()).to_bytes(8, "big")
    return sha256(head + label.encode() + salt + value).hex()


def opens(leaf, label, opening):
    if set(opening) != {"salt", "value"}:
        raise Bad("an opening has salt and value")
    salt = b64(opening["salt"])
    if len(salt) != 32:
        raise Bad("a salt has 32 bytes")
    stands = leaf.get(label)
    if label == "caller" and "caller" not in leaf:
        stands = leaf.get("by")
    return stands == commitment(label, salt, b64(opening["value"]))


# --- The folder -----------------------------------------------------------------------------------


def tile_path(folder, kind, index, width):
    groups = []
    while True:
        groups.insert(0, f"{index % 1000:03}")
        index //= 1000
        if not index:
            break
    number = "/".join(["x" + g for g in groups[:-1]] + groups[-1:])
    return os.path.join(folder, "tile", kind, number + (f".p/{width}" if width < 256 else ""))


def read_tile(folder, kind, index, width):
    """Bytes and their width; the full tile stands in for a partial one that is gone."""
    for w in (width, 256):
        path = tile_path(folder, kind, index, w)
        if os.path.isfile(path):
            with open(path, "rb") as f:
                return f.read(), w, path
    return None, width, tile_path(folder, kind, index, width)


def split_bundle(data, width, path):
    entries, at = [], 0
    for _ in range(width):
        length = int.from_bytes(data[at : at + 2], "big")
        if at + 2 + length > len(data):
            raise Bad(f"{path} is cut off")
        entries.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    if at != len(data):
        raise Bad(f"{path} has bytes after its last entry")
    return entries


class Judge:
    def __init__(self):
        self.wrong, self.unchecked = [], []
        self.counts = dict.fromkeys(
            ("leaves", "authorisations", "signed", "failed", "unknown", "open", "details",
             "openings", "tiles", "receipts"), 0
        )

    def entries(self, folder, size):
        """All leaves, or None if one bundle is missing."""
        entries = []
        for index in range((size + 255) // 256):
            width = min(256, size - 256 * index)
            data, found, path = read_tile(folder, "entries", index, width)
            if data is None:
                self.unchecked.append(f"{path} is missing")
                return None
            entries += split_bundle(data, found, path)[:width]
        return entries

    def tiles(self, folder, hashes):
        """Every hash tile must be what the leaves say."""
        level = 0
        while hashes:
            for index in range((len(hashes) + 255) // 256):
                expected = hashes[256 * index : 256 * index + 256]
                data, _, path = read_tile(folder, str(level), index, len(expected))
                if data is None:
                    self.unchecked.append(f"{path} is missing")
                elif len(data) % 32 or data[: 32 * len(expected)] != b"".join(expected):
                    self.wrong.append(f"{path} is not the hash of what lies below")
                else:
                    self.counts["tiles"] += 1
            full = len(hashes) // 256
            hashes = [root_of(hashes[256 * i : 256 * i + 256]) for i in range(full)]
            level += 1

    def history(self, entries):
        """What the leaves say, checked against each other."""
        leaves, closed, opened, last = [], {}, None, 0
        for index, entry in enumerate(entries):

            def wrong(what, index=index):
                self.wrong.append(f"leaf {index}: {what}")

            try:
                leaf = read_leaf(entry)
            except Unknown as e:
                self.unchecked.append(f"leaf {index}: unknown schema: {e}")
                leaves.append(None)
                continue
            except Bad as e:
                wrong(str(e))
                leaves.append(None)
                continue
            leaves.append(leaf)
            self.counts["leaves"] += 1
            kind = leaf["type"]
            if leaf["time"] < last:
                wrong("time went backwards")
            last = max(last, leaf["time"])
            if (kind == "log-opened") != (index == 0):
                wrong("log-opened is the first leaf, and no other")
            elif index == 0:
                opened = leaf
            if opened:
                allowed = KEY_LOG_TYPES if "key" in opened else TENANT_LOG_TYPES
                if kind not in allowed:
                    wrong(f"{kind} does not belong into this log")
            if kind == "authorisation":
                self.counts["authorisations"] += 1
                if opened and leaf["tenant"] != opened["tenant"]:
                    wrong("of another tenant")
                if opened and "key" in opened and leaf["key"] != opened["key"]["id"]:
                    wrong("of another key")
                if "repeats" in leaf and closed.get(leaf["repeats"]) not in ("failed", "unknown"):
                    wrong("repeats a leaf whose outcome is neither failed nor unknown")
            elif kind == "outcome":
                of = leaf["of"]
                if of >= index or (leaves[of] is not None and leaves[of]["type"] != "authorisation"):
                    wrong(f"outcome of leaf {of}, which is no earlier authorisation")
                elif of in closed:
                    wrong(f"second outcome of leaf {of}")
                elif leaves[of] is not None:
                    closed[of] = leaf["result"]
                    self.counts[leaf["result"]] += 1
        self.counts["open"] = self.counts["authorisations"] - len(closed)
        return leaves

    def details(self, path, leaves):
        seen = set()
        with open(path, encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                if not line.strip():
                    continue
                try:
                    details = json.loads(line, object_pairs_hook=unique)
                    index = details.pop("index")
                    leaf = leaves[index] if is_number(index) and index < len(leaves) else None
                    if leaf is None:
                        raise Bad("of no leaf that could be read")
                    if index in seen:
                        raise Bad(f"second details of leaf {index}")
                    seen.add(index)
                    for label, opening in details.items():
                        if not opens(leaf, label, opening):
                            raise Bad(f"{label} does not open leaf {index}")
                        self.counts["openings"] += 1
                    self.counts["details"] += 1
                except (Bad, ValueError, KeyError, AttributeError, TypeError) as e:
                    self.wrong.append(f"details.ndjson line {number}: {e}")

    def receipt(self, path, vkeys, entries, hashes):
        try:
            with open(path, encoding="utf-8") as f:
                head, blank, note = f.read().partition("\n\n")
            lines = head.split("\n")
            if not blank or len(lines) < 3 or lines[0] != "c2sp.org/tlog-proof@v1":
                raise Bad("not a receipt")
            if not lines[1].startswith("extra ") or not lines[2].startswith("index "):
                raise Bad("extra and index are missing")
            extra = json.loads(b64(lines[1][6:]), object_pairs_hook=unique)
            leaf, index = b64(extra["leaf"]), int(lines[2][6:])
            _, size, root = open_checkpoint(note, vkeys)
            proof = [b64(line) for line in lines[3:]]
            if any(len(h) != 32 for h in proof):
                raise Bad("a proof is made of 32-byte hashes")
            if root_from_inclusion(index, size, leaf_hash(leaf), proof) != root:
                raise Bad("its proof does not lead to its checkpoint")
            content = read_leaf(leaf)
            if content["type"] != "authorisation":
                raise Bad("it is not of an authorisation")
            if "artifact" in extra and not opens(content, "artifact", extra["artifact"]):
                raise Bad("its file digest does not open the leaf")
            if entries is not None:
                if size > len(entries):
                    self.unchecked.append(f"{path}: newer than the downloaded log")
                elif entries[index] != leaf or root_of(hashes[:size]) != root:
                    raise Bad("it is of another history than the downloaded log")
            self.counts["receipts"] += 1
        except (Bad, Unknown, ValueError, KeyError, TypeError, OSError) as e:
            self.wrong.append(f"{path}: {e}")


def judge(args):
    verdict = Judge()
    path = os.path.join(args.folder, "checkpoint")
    with open(path, encoding="utf-8", newline="") as f:
        note = f.read()
    vkeys = args.vkey
    if not vkeys:
        with open(os.path.join(args.folder, "vkey"), encoding="utf-8") as f:
            vkeys = [line for line in f.read().splitlines() if line.strip()]
    try:
        vkeys = [read_vkey(v) for v in vkeys]
        origin, size, root = open_checkpoint(note, vkeys)
    except Bad as e:
        verdict.wrong.append(f"checkpoint: {e}")
        return verdict, None
    if args.origin and args.origin != origin:
        verdict.wrong.append(f"a log of {origin}, not {args.origin}")
    entries, hashes = None, []
    try:
        entries = verdict.entries(args.folder, size)
    except Bad as e:
        verdict.wrong.append(str(e))
    if entries is not None:
        hashes = [leaf_hash(e) for e in entries]
        if root_of(hashes) != root:
            verdict.wrong.append("the leaves do not add up to the signed root")
        verdict.tiles(args.folder, hashes)
        leaves = verdict.history(entries)
        details = os.path.join(args.folder, "details.ndjson")
        if os.path.isfile(details):
            verdict.details(details, leaves)
    for path in args.previous:
        try:
            with open(path, encoding="utf-8", newline="") as f:
                old_origin, old_size, old_root = open_checkpoint(f.read(), vkeys)
            if old_origin != origin:
                raise Bad("of another log")
            if old_size > size:
                raise Bad(f"the log shrank from {old_size} to {size} leaves")
            if entries is None:
                verdict.unchecked.append(f"{path}: leaves are missing")
            elif root_of(hashes[:old_size]) != old_root:
                raise Bad("history was rewritten since")
        except Bad as e:
            verdict.wrong.append(f"{path}: {e}")
    for place in args.receipts:
        names = [place]
        if os.path.isdir(place):
            names = [os.path.join(place, n) for n in sorted(os.listdir(place))]
            names = [n for n in names if n.endswith(".tlog-proof")]
        for name in names:
            verdict.receipt(name, vkeys, entries, hashes)
    return verdict, {"origin": origin, "size": size, "root": root.hex()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder")
    parser.add_argument("--vkey", action="append", default=[], help="instead of the file vkey")
    parser.add_argument("--origin", help="the log it must be")
    parser.add_argument("--previous", action="append", default=[], metavar="CHECKPOINT")
    parser.add_argument("--receipts", action="append", default=[], metavar="DIR_OR_FILE")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    try:
        verdict, head = judge(args)
    except (OSError, UnicodeDecodeError) as e:
        print(f"cannot be checked: {e}", file=sys.stderr)
        return 2
    code = 1 if verdict.wrong else 2 if verdict.unchecked else 0
    word = {0: "good", 1: "bad", 2: "undecided"}[code]
    if args.json:
        print(json.dumps({
            "verdict": word, "head": head, "counts": verdict.counts, "wrong": verdict.wrong,
            "unchecked": verdict.unchecked,
        }))
        return code
    if head:
        print(f"{head['origin']}: {head['size']} leaves, root {head['root']}")
    print(", ".join(f"{n} {what}" for what, n in verdict.counts.items()))
    for line in verdict.wrong:
        print(f"WRONG: {line}")
    for line in verdict.unchecked:
        print(f"not checked: {line}")
    print(f"verdict: {word}")
    return code


if __name__ == "__main__":
    sys.exit(main())
