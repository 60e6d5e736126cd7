#!/usr/bin/env bash
# moto gives an image index a random digest, one of 101.
#
# Seen with: moto 5.2.5, boto3 1.44.8, Python 3.11
# Expected:  The same index has the same digest wherever it is pushed: the SHA-256 of its bytes.
# Seen:      For a manifest without layers, moto 5.2.5 hashes a random integer from 0 to 100. The same index
#            pushed to 200 repositories has dozens of digests, at most 101, and two different indexes can
#            have the same one.
# Matters:   A test on moto that compares an index's digest with its source fails at random places, and
#            passes by chance about once in a hundred runs where it compares two of moto's own digests.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "moto==5.2.5" "boto3==1.44.8" "botocore==1.44.8"

cat >"$folder/check.py" <<'PYTHON'
import hashlib
import json

import boto3
from moto import mock_aws

index = json.dumps({
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.index.v1+json",
    "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": "sha256:" + "ab" * 32,
        "size": 500,
        "platform": {"os": "linux", "architecture": "amd64"},
    }],
})

with mock_aws():
    ecr = boto3.client("ecr")
    digests = set()
    for number in range(200):
        name = f"app-{number}"
        ecr.create_repository(repositoryName=name)
        answer = ecr.put_image(repositoryName=name, imageManifest=index, imageTag="1.0")
        digests.add(answer["image"]["imageId"]["imageDigest"])
    possible = {"sha256:" + hashlib.sha256(str(number).encode()).hexdigest() for number in range(101)}
    print("the same index in 200 repositories has", len(digests), "digests")
    assert len(digests) > 1, "moto computes the digest of an index now"
    assert digests <= possible, "moto takes its random digests from elsewhere now"
    print("each is the SHA-256 of a number from 0 to 100")
PYTHON
AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=eu-west-1 "$folder/venv/bin/python" "$folder/check.py"
