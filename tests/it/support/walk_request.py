#!/usr/bin/env python3
"""Takes a certificate request apart with the standard library alone: no code of Countersign's.

Usage: walk_request.py REQUEST.PEM STATEMENT_OUT
Writes the statement that stands in the attestation attribute, and prints what a CA would compute
of the request to hold against it.
"""
import base64
import hashlib
import json
import sys

ATTESTATION = "1.2.840.113549.1.9.16.2.59"
STATEMENT = "2.25.108418024523661256655688543902536148121"


def elements(data):
    """(tag, content, whole) of each element; definite lengths alone."""
    out, at = [], 0
    while at < len(data):
        start, tag, length = at, data[at], data[at + 1]
        at += 2
        if length & 0x80:
            n = length & 0x7F
            length = int.from_bytes(data[at:at + n], "big")
            at += n
        assert n_ok(data, at, length), "cut off"
        out.append((tag, data[at:at + length], data[start:at + length]))
        at += length
    return out


def n_ok(data, at, length):
    return at + length <= len(data)


def tlv(tag, content):
    n = len(content)
    if n < 0x80:
        return bytes([tag, n]) + content
    size = n.to_bytes((n.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content


def oid(content):
    arcs, arc = [], 0
    for byte in content:
        arc = arc << 7 | byte & 0x7F
        if not byte & 0x80:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(str(a) for a in [first, arcs[0] - 40 * first] + arcs[1:])


pem = open(sys.argv[1], encoding="ascii").read()
body = pem.split("-----BEGIN CERTIFICATE REQUEST-----")[1].split("-----END")[0]
[(tag, request, _)] = elements(base64.b64decode(body))
assert tag == 0x30
info, algorithm, signature = elements(request)
version, subject, spki, attributes = elements(info[1])
assert attributes[0] == 0xA0
bundles, others = [], []
for attribute in elements(attributes[1]):
    kind, values = elements(attribute[1])
    if oid(kind[1]) == ATTESTATION:
        bundles += elements(values[1])
    else:
        others.append(attribute[2])
[(_, bundle, _)] = bundles
[(_, attestations, _)] = elements(bundle)
[(_, attestation, _)] = elements(attestations)
kind, statement = elements(attestation)
assert oid(kind[1]) == STATEMENT
with open(sys.argv[2], "wb") as f:
    f.write(statement[2])
without = tlv(0x30, version[2] + subject[2] + spki[2] + tlv(0xA0, b"".join(others)))
print(json.dumps({
    "spki_sha256": hashlib.sha256(spki[2]).hexdigest(),
    "info_without_attestation_sha256": hashlib.sha256(without).hexdigest(),
    "attributes": 1 + len(others),
}))
