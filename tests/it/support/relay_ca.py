#!/usr/bin/env python3
"""Stands between countersignd and a CA and changes what goes through, as an attacker on the way
(or inside either of them) would. Standard library alone.

Usage: relay_ca.py CERT KEY MODE_FILE FOREIGN_CSR NAME=URL,CA_FILE ...

MODE_FILE holds one word, read at each request:
  pass          changes nothing
  tampered      the statement says hardware where it said software, in the request and beside it
  beside        the copy beside the request alone is changed
  other-key     somebody else's request under our statement
  naked         a request without any statement
  audience      the order is said to be for another CA
  replay:ORDER  the order opened is one that was used before
  slow          the CA has the request, and is not done with it
  late:NAME     the CA of that name, whose orders live a second, and no hurry
"""
import base64
import json
import ssl
import sys
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CERT, KEY, MODE_FILE, FOREIGN_CSR = sys.argv[1:5]
CAS = {}
for arg in sys.argv[5:]:
    name, rest = arg.split("=", 1)
    url, ca_file = rest.split(",", 1)
    CAS[name] = (url, ssl.create_default_context(cafile=ca_file))


def mode():
    with open(MODE_FILE, encoding="ascii") as f:
        word, _, argument = f.read().strip().partition(":")
    return word, argument


def ask(ca, method, path, body=None):
    url, context = CAS[ca]
    request = urllib.request.Request(url + path, method=method, data=body)
    request.add_header("content-type", "application/json")
    try:
        with urllib.request.urlopen(request, context=context, timeout=30) as answer:
            return answer.status, answer.headers["content-type"], answer.read()
    except urllib.error.HTTPError as e:
        return e.code, e.headers["content-type"], e.read()


def changed(word, body):
    sent = json.loads(body)
    csr, statement = base64.b64decode(sent["csr"]), base64.b64decode(sent["statement"])
    # The device: BOOLEAN TRUE, and the manufacturer after it.
    marked = b"\x01\x01\xff\x0c"
    assert statement.count(marked) == 1 and csr.count(statement) == 1
    lie = statement.replace(marked, b"\x01\x01\x00\x0c")
    if word == "tampered":
        csr, statement = csr.replace(statement, lie), lie
    elif word == "beside":
        statement = lie
    elif word in ("other-key", "naked"):
        with open(FOREIGN_CSR, "rb") as f:
            csr = f.read()
    sent["csr"], sent["statement"] = (base64.b64encode(b).decode() for b in (csr, statement))
    if word == "naked":
        del sent["statement"]
    return json.dumps(sent).encode()


class Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_request(self, method):
        body = self.rfile.read(int(self.headers.get("content-length") or 0)) or None
        word, argument = mode()
        ca = argument if word == "late" else "ca"
        if method == "POST" and self.path == "/orders":
            if word == "replay":
                status, kind, answer = ask(ca, "GET", "/orders/" + argument)
                status = 201
            else:
                status, kind, answer = ask(ca, method, self.path, body)
            if word == "audience":
                order = json.loads(answer)
                order["audience"] = "another-ca.test"
                answer = json.dumps(order).encode()
        elif method == "POST":
            if word == "late":
                order = self.path.split("/")[2]
                while json.loads(ask(ca, "GET", "/orders/" + order)[2])["status"] == "open":
                    time.sleep(0.1)
            status, kind, answer = ask(ca, method, self.path, changed(word, body))
            if word == "slow":
                assert status == 200, answer
                status, answer = 202, b'{"status": "processing"}'
        else:
            status, kind, answer = ask(ca, method, self.path)
            if word == "slow":
                answer = b'{"status": "processing"}'
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_POST(self):
        self.handle_request("POST")

    def do_GET(self):
        self.handle_request("GET")

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Relay)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERT, KEY)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(json.dumps({"listening": f"https://localhost:{server.server_address[1]}"}), flush=True)
server.serve_forever()
