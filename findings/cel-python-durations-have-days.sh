#!/usr/bin/env bash
# cel-python accepts days in durations, which the API server of Kubernetes refuses.
#
# Seen with: cel-python 0.5.0, Python 3.11
# Expected:  The definition of CEL names the units h, m, s, ms, us and ns, those of Go's time.ParseDuration, which cel-go
#            and so Kubernetes call. A rule that passes a check in Python should compile there.
# Seen:      duration('1d') is 86400 s, as duration('24h') is.
# Matters:   Rules of CustomResourceDefinitions and admission policies that were tried with cel-python fail in the cluster.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "cel-python==0.5.0"

cat >"$folder/check.py" <<'PYTHON'
import celpy

environment = celpy.Environment()


def value(text):
    return environment.program(environment.compile(text)).evaluate({})


print("duration('1d') ->", value("duration('1d')"))
assert value("duration('1d') == duration('24h')"), "days are no unit now"
try:
    value("duration('1y')")
except celpy.CELEvalError:
    print("duration('1y') -> an error")
else:
    raise AssertionError("years are a unit now")
PYTHON
"$folder/venv/bin/python" "$folder/check.py"
