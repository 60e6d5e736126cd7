#!/usr/bin/env bash
# cel-python cannot compare an int with a double of unknown type.
#
# Seen with: cel-python 0.5.0, Python 3.11
# Expected:  dyn(1.0) == 1 is true and dyn(1) == 'a' is false: the definition of CEL compares values of unknown
#            type by value, over all three types of numbers, and values that cannot be compared are different.
# Seen:      Both are errors ("found no matching overload"), and so is a comparison with the field of a JSON document.
# Matters:   In JSON 1.0 and 1 are the same number. `ratio == 1` fails in Python for the document {"ratio": 1.0}.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "cel-python==0.5.0"

cat >"$folder/check.py" <<'PYTHON'
import celpy

environment = celpy.Environment()


def value(text, **variables):
    return environment.program(environment.compile(text)).evaluate(celpy.json_to_cel(variables))


for text in ("dyn(1.0) == 1", "dyn(1) == 'a'", "ratio == 1"):
    try:
        answer = value(text, ratio=1.0)
    except celpy.CELEvalError as error:
        print(text, "->", str(error.args[0]).split(" for ")[0])
    else:
        raise AssertionError(f"{text} is {answer} now")
assert value("ratio == 1.0", ratio=1.0)
PYTHON
"$folder/venv/bin/python" "$folder/check.py"
