#!/usr/bin/env bash
# moto's ECR login has expired before it is given out.
#
# Seen with: moto 5.2.5, boto3 1.44.8, Python 3.11
# Expected:  GetAuthorizationToken returns a login that is valid for some hours from now.
# Seen:      expiresAt is 2015-01-01T00:00:00Z, always.
# Matters:   A client that renews its login before it expires asks for a new one at every request, or never
#            stops asking. One that never looks at expiresAt passes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "moto==5.2.5" "boto3==1.44.8" "botocore==1.44.8"

cat >"$folder/check.py" <<'PYTHON'
from datetime import datetime, timezone

import boto3
from moto import mock_aws

with mock_aws():
    login = boto3.client("ecr").get_authorization_token()["authorizationData"][0]
    print("expires at", login["expiresAt"].astimezone(timezone.utc).isoformat())
    assert login["expiresAt"] == datetime(2015, 1, 1, tzinfo=timezone.utc), "moto gives out another time now"
    assert login["expiresAt"] < datetime.now(timezone.utc)
PYTHON
AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=eu-west-1 "$folder/venv/bin/python" "$folder/check.py"
