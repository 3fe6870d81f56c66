#!/usr/bin/env python3
"""Decodes a Countersign service statement with the standard library alone.

An independent reading of docs/service-statement.md: it shares no code with the crate and prints
one JSON object. Usage: decode_statement.py FILE
"""
import json
import sys


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def done(self):
        return self.at == len(self.data)

    def tlv(self, expected=None):
        start = self.at
        tag = self.data[self.at]
        first = self.data[self.at + 1]
        self.at += 2
        length = first
        if first & 0x80:
            n = first & 0x7F
            assert 1 <= n <= 4, "length form"
            length = int.from_bytes(self.data[self.at:self.at + n], "big")
            assert length >= 0x80 and length >> (8 * (n - 1)), "length not minimal"
            self.at += n
        value = self.data[self.at:self.at + length]
        assert len(value) == length, "cut off"
        self.at += length
        if expected is not None:
            assert tag == expected, f"tag {tag:#x}, expected {expected:#x}"
        return tag, value, self.data[start:self.at]

    def sequence(self):
        return Reader(self.tlv(0x30)[1])

    def text(self):
        return self.tlv(0x0C)[1].decode("utf-8")

    def octets(self):
        return self.tlv(0x04)[1].hex()

    def number(self, tag=0x02):
        return int.from_bytes(self.tlv(tag)[1], "big", signed=True)

    def time(self):
        t = self.tlv(0x18)[1].decode("ascii")
        return f"{t[0:4]}-{t[4:6]}-{t[6:8]}T{t[8:10]}:{t[10:12]}:{t[12:14]}{t[14:]}"

    def boolean(self):
        value = self.tlv(0x01)[1]
        assert value in (b"\x00", b"\xff")
        return value == b"\xff"

    def oid(self):
        arcs, arc = [], 0
        for byte in self.tlv(0x06)[1]:
            arc = arc << 7 | byte & 0x7F
            if not byte & 0x80:
                arcs.append(arc)
                arc = 0
        first = min(arcs[0] // 40, 2)
        return ".".join(str(a) for a in [first, arcs[0] - 40 * first] + arcs[1:])


def main(path):
    top = Reader(open(path, "rb").read())
    statement = top.sequence()
    assert top.done(), "trailing bytes"
    t = statement.sequence()
    algorithm = statement.sequence()
    out = {"version": t.number(), "type": t.oid(), "signer_key_hash": t.octets(),
           "service": t.text(), "tenant": t.octets(), "subscriber": t.text(),
           "audience": t.text()}
    order = t.sequence()
    out["order_id"], out["order_nonce"] = order.text(), order.octets()
    out["issued_at"], out["expires_at"] = t.time(), t.time()
    out["csr_info_hash"] = t.octets()
    key = t.sequence()
    out["key_id"], out["spki_hash"] = key.octets(), key.octets()
    out["isolation"] = ["exclusive-token", "per-key-authorisation", "shared-token"][key.number(0x0A)]
    out["mechanism"] = key.text()
    attributes = key.sequence()
    out["attributes"] = []
    while not attributes.done():
        one = attributes.sequence()
        out["attributes"].append([one.text(), one.text()])
        assert one.done()
    device = t.sequence()
    out["software"] = device.boolean()
    for name in ["manufacturer", "model", "serial", "firmware"]:
        out[name] = device.text()
    log = t.sequence()
    out["log_origin"], out["log_verifier_key"] = log.text(), log.text()
    out["log_size"], out["log_root"] = log.number(), log.octets()
    while not t.done():
        tag, value, _ = t.tlv()
        inner = Reader(value)
        if tag == 0xA0:
            out["practice_statement_hash"] = inner.octets()
        elif tag == 0xA1:
            audit = inner.sequence()
            out["audit"] = [audit.text(), audit.time(), audit.time()]
            assert audit.done()
        else:
            raise AssertionError(f"unknown tag {tag:#x}")
        assert inner.done()
    for part in [key, device, log, order]:
        assert part.done(), "trailing bytes in a part"
    out["algorithm"] = algorithm.oid()
    assert algorithm.done()
    bits = statement.tlv(0x03)[1]
    assert bits[0] == 0 and statement.done()
    out["signature"] = bits[1:].hex()
    print(json.dumps(out))


main(sys.argv[1])
