#!/usr/bin/env bash
# botocore retries ECR's LimitExceededException in its modes standard and adaptive, but not in legacy.
#
# Seen with: botocore 1.44.8 (boto3 1.44.8), Python 3.11
# Expected:  In ECR this error says that a quota is used up (repositories, images, tags of an image), which
#            time does not heal: one request in every mode, as for any other error with status 400.
# Seen:      standard and adaptive send three requests, since the code counts as throttling there; legacy
#            sends one.
# Matters:   At a full quota, each call takes longer and costs three requests of a rate that all clients of
#            the account share. Changing AWS_RETRY_MODE changes which errors are retried, not only how.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "boto3==1.44.8" "botocore==1.44.8"

cat >"$folder/check.py" <<'PYTHON'
import collections
import http.server
import json
import threading

import boto3
from botocore.config import Config

requests = collections.Counter()


class QuotaIsFull(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        requests[mode] += 1
        body = json.dumps({"__type": "LimitExceededException", "message": "100000 repositories"}).encode()
        self.send_response(400)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), QuotaIsFull)
threading.Thread(target=server.serve_forever, daemon=True).start()
for mode in ("legacy", "standard", "adaptive"):
    ecr = boto3.client("ecr", endpoint_url=f"http://127.0.0.1:{server.server_port}", config=Config(retries={"mode": mode}))
    try:
        ecr.create_repository(repositoryName="app")
    except ecr.exceptions.LimitExceededException:
        print(f"{mode}: {requests[mode]} requests")
assert requests == {"legacy": 1, "standard": 3, "adaptive": 3}, "other numbers now"
PYTHON
AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=eu-west-1 "$folder/venv/bin/python" "$folder/check.py"
