#!/usr/bin/env bash
# oras for Python reads localhost/app as an image of Docker Hub.
#
# Seen with: oras 0.2.37 (Python), docker-image-py 0.2.0, Python 3.11
# Expected:  localhost is a host in references without a port too: the grammar of the distribution project names it, and
#            docker, crane and the oras of Go read it so. docker-image-py is a port of that grammar, for comparison.
# Seen:      The registry is docker.io and the namespace localhost. 127.0.0.1/app, which has dots, is read as a host.
# Matters:   A push to a registry on port 80 or 443 of the same machine goes to Docker Hub instead, with its login.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "oras==0.2.37" "docker-image-py==0.2.0"

cat >"$folder/check.py" <<'PYTHON'
from docker_image.reference import Reference
from oras.container import Container

for name in ("localhost/app:1", "127.0.0.1/app:1", "localhost:5000/app:1"):
    expected, _ = Reference.parse_normalized_named(name).split_hostname()
    print(f"{name}: host {expected}, oras has {Container(name).registry}")

assert Container("localhost/app:1").registry == "docker.io", "localhost is a host now"
assert Container("localhost/app:1").namespace == "localhost"
assert Container("127.0.0.1/app:1").registry == "127.0.0.1"
assert Reference.parse_normalized_named("localhost/app:1").split_hostname()[0] == "localhost"
PYTHON
"$folder/venv/bin/python" "$folder/check.py"
