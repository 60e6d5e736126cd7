#!/usr/bin/env bash
# In moto, an image whose last tag moves to another image is gone; in ECR it stays, untagged.
#
# Seen with: moto 5.2.5, boto3 1.44.8, Python 3.11
# Expected:  Two images: the new one with the tag, the old one without. A lifecycle rule for untagged images
#            exists because of this.
# Seen:      One image. DescribeImages with filter tagStatus UNTAGGED returns the tagged image: the filter
#            is not applied, while ListImages applies it.
# Matters:   Clean-up of untagged images, and every look at an image by the digest that it had before,
#            cannot be tested on moto.
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
    for layer in ("layer one", "layer two"):
        ecr.put_image(repositoryName="app", imageManifest=manifest("config", layer), imageTag="latest")
    images = ecr.describe_images(repositoryName="app")["imageDetails"]
    print("images after the tag moved:", [image.get("imageTags") for image in images])
    assert [image.get("imageTags") for image in images] == [["latest"]], "moto keeps the untagged image now"
    untagged = ecr.describe_images(repositoryName="app", filter={"tagStatus": "UNTAGGED"})["imageDetails"]
    print("DescribeImages, UNTAGGED:  ", [image.get("imageTags") for image in untagged])
    assert [image.get("imageTags") for image in untagged] == [["latest"]], "DescribeImages applies the filter now"
    listed = ecr.list_images(repositoryName="app", filter={"tagStatus": "UNTAGGED"})["imageIds"]
    print("ListImages, UNTAGGED:      ", listed)
    assert listed == [], "ListImages returns other images now"
PYTHON
AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=eu-west-1 "$folder/venv/bin/python" "$folder/check.py"
