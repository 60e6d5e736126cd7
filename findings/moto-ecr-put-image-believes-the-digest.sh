#!/usr/bin/env bash
# moto stores an image under whatever digest the caller of PutImage names.
#
# Seen with: moto 5.2.5, boto3 1.44.8, Python 3.11
# Expected:  ImageDigestDoesNotMatchException: imageDigest is there to let ECR check what arrived.
# Seen:      The manifest is stored under a digest of 64 zeros, and every later call reports this digest.
# Matters:   A client that computes digests wrongly, or corrupts a manifest on its way, passes its tests on
#            moto.
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


def manifest(config, layer):
    """An OCI image manifest that names one configuration and one layer."""
    return json.dumps({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(config), "size": len(config)},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": sha256(layer), "size": len(layer)}],
    })


def sha256(text):
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


with mock_aws():
    ecr = boto3.client("ecr")
    ecr.create_repository(repositoryName="app")
    wrong = "sha256:" + "0" * 64
    ecr.put_image(repositoryName="app", imageManifest=manifest("config", "layer"), imageTag="1.0", imageDigest=wrong)
    found = ecr.describe_images(repositoryName="app", imageIds=[{"imageTag": "1.0"}])["imageDetails"][0]["imageDigest"]
    print("stored under", found)
    assert found == wrong, "moto computes the digest itself now"
PYTHON
AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=eu-west-1 "$folder/venv/bin/python" "$folder/check.py"
