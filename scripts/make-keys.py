#!/usr/bin/env python3
"""Makes keys over one connection: `make-keys.py SERVER CA_FILE TOKEN_FILE TENANT SIGNER COUNT`.

For scripts/growth.sh, which wants thousands: a process and a handshake for each would be most of the time.
TOKEN_FILE holds a service token as `countersign login` keeps it.
"""

import http.client
import json
import ssl
import sys
import urllib.parse

server, ca_file, token_file, tenant, signer, count = sys.argv[1:7]
with open(token_file) as f:
    token = json.load(f)["access_token"]
url = urllib.parse.urlsplit(server)
connection = http.client.HTTPSConnection(url.hostname, url.port, context=ssl.create_default_context(cafile=ca_file))
for _ in range(int(count)):
    connection.request("POST", f"/v1/tenants/{tenant}/signers/{signer}/keys", headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 201:
        sys.exit(f"{answer.status}: {body.decode(errors='replace')[:300]}")
