#!/usr/bin/env bash
# moto refuses repository names with two separators in a row, which the ECR API allows.
#
# Seen with: moto 5.2.5, boto3 1.44.8, Python 3.11
# Expected:  The names a--b and a__b are taken: botocore's own model of the ECR API, which moto's users have
#            beside it, has the pattern with (\.|_|__|-+) between the parts.
# Seen:      InvalidParameterException for both; the pattern in the message allows one separator.
# Matters:   Names that are generated from branches or domains (feature--x) fail on moto and work in AWS.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "moto==5.2.5" "boto3==1.44.8" "botocore==1.44.8"

cat >"$folder/check.py" <<'PYTHON'
import json
import re

import boto3
from moto import mock_aws

with mock_aws():
    ecr = boto3.client("ecr")
    shape = ecr.meta.service_model.shape_for("RepositoryName")
    pattern = shape.metadata["pattern"]
    print("pattern of the API:", pattern)
    for name in ("a--b", "a__b"):
        assert re.fullmatch(pattern, name), "the API's own pattern refuses the name now"
        try:
            ecr.create_repository(repositoryName=name)
        except ecr.exceptions.InvalidParameterException as error:
            print(name, "->", error.response["Error"]["Code"])
        else:
            raise AssertionError(f"moto takes {name} now")
PYTHON
AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=eu-west-1 "$folder/venv/bin/python" "$folder/check.py"
