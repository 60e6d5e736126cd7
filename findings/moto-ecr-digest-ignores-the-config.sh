#!/usr/bin/env bash
# moto computes an image's digest from its layers' digests, not from the manifest, so one digest can
# stand for two images.
#
# Seen with: moto 5.2.5, boto3 1.44.8, Python 3.11
# Expected:  imageDigest is the SHA-256 of the manifest's bytes, as in every registry; a new configuration
#            is a new image.
# Seen:      imageDigest is the SHA-256 of the layers' digests in a row. Two manifests with the same layers
#            and different configurations get the same digest, and BatchGetImage returns both manifests for
#            this one digest.
# Matters:   A test on moto that changes only an image's configuration (entrypoint, environment, labels)
#            sees the same digest before and after. Digests from moto can never be compared with those of a
#            registry.
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
    first, second = manifest("config one", "layer"), manifest("config two", "layer")
    digests = [
        ecr.put_image(repositoryName="app", imageManifest=text, imageTag=tag)["image"]["imageId"]["imageDigest"]
        for tag, text in (("1.0", first), ("2.0", second))
    ]
    print("digests by moto:        ", digests)
    print("digests of the bytes:   ", [sha256(first), sha256(second)])
    assert digests[0] == digests[1] == sha256(sha256("layer")), "moto computes the digest in another way now"
    images = ecr.batch_get_image(repositoryName="app", imageIds=[{"imageDigest": digests[0]}])["images"]
    print("images with this digest:", len(images))
    configurations = {json.loads(image["imageManifest"])["config"]["digest"] for image in images}
    assert configurations == {sha256("config one"), sha256("config two")}, "moto keeps one of the two now"
PYTHON
AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=eu-west-1 "$folder/venv/bin/python" "$folder/check.py"
