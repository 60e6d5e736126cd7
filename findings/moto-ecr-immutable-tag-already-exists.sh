#!/usr/bin/env bash
# moto refuses to move an immutable tag with the error that stands for "nothing to do".
#
# Seen with: moto 5.2.5, boto3 1.44.8, Python 3.11
# Expected:  ImageTagAlreadyExistsException, which the ECR API documents for a tag that exists in a
#            repository with immutable tags. ImageAlreadyExistsException is documented for the same manifest
#            and tag: nothing changed.
# Seen:      ImageAlreadyExistsException for both. Its message names the old image's digest, so it also
#            reads as if the old image had been pushed.
# Matters:   A client that takes ImageAlreadyExistsException as success, which is right on ECR, reports on
#            moto that it moved the tag. Its handling of immutable tags is never tested there.
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


def refusal(ecr, text):
    """The error code and message of PutImage."""
    try:
        ecr.put_image(repositoryName="app", imageManifest=text, imageTag="1.0")
    except ecr.exceptions.ClientError as error:
        return error.response["Error"]["Code"], error.response["Error"]["Message"]
    raise AssertionError("the image was taken")


with mock_aws():
    ecr = boto3.client("ecr")
    ecr.create_repository(repositoryName="app", imageTagMutability="IMMUTABLE")
    answer = ecr.put_image(repositoryName="app", imageManifest=manifest("config", "layer one"), imageTag="1.0")
    old = answer["image"]["imageId"]["imageDigest"]
    same = refusal(ecr, manifest("config", "layer one"))
    other = refusal(ecr, manifest("config", "layer two"))
    print("the same image again:          ", same[0])
    print("another image to immutable tag:", other[0])
    assert other[0] == same[0] == "ImageAlreadyExistsException", "moto tells the two apart now"
    assert old in other[1], "the message names another digest now"
    print("the message about the other image names the old digest")
PYTHON
AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=eu-west-1 "$folder/venv/bin/python" "$folder/check.py"
