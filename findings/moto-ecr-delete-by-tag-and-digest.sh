#!/usr/bin/env bash
# In moto, deleting one tag and naming its digest beside it deletes all tags of the image.
#
# Seen with: moto 5.2.5, boto3 1.44.8, Python 3.11
# Expected:  A tag with a digest is the more careful form of a tag alone: it removes that tag, if it still
#            is on that digest. (The error ImageTagDoesNotMatchDigest of the ECR API exists for this form.)
# Seen:      All three tags are gone, and so is the image. With the tag alone, only that tag goes.
# Matters:   A client that adds the digest, so that it never removes a tag which has moved meanwhile, loses
#            more on moto than a careless one.
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

    def left_after(**beside):
        for tag in ("1", "1.2", "1.2.3"):
            answer = ecr.put_image(repositoryName="app", imageManifest=manifest("config", "layer"), imageTag=tag)
        names = {"digest": answer["image"]["imageId"]["imageDigest"]}
        image = {"imageTag": "1.2.3"} | {key: names[value] for key, value in beside.items()}
        ecr.batch_delete_image(repositoryName="app", imageIds=[image])
        left = sorted(image["imageTag"] for image in ecr.list_images(repositoryName="app")["imageIds"])
        ecr.delete_repository(repositoryName="app", force=True)
        ecr.create_repository(repositoryName="app")
        return left

    by_tag = left_after()
    by_both = left_after(imageDigest="digest")
    print("left after deleting by tag:           ", by_tag)
    print("left after deleting by tag and digest:", by_both)
    assert by_tag == ["1", "1.2"], "deleting by tag changed"
    assert by_both == [], "moto removes only the named tag now"
PYTHON
AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=eu-west-1 "$folder/venv/bin/python" "$folder/check.py"
