#!/bin/sh
# Install the dependencies of the project and of some of its extras into /opt/venv, and list them as a CycloneDX bill of
# materials in /opt/venv/sbom.cdx.json. The project's own code is no part of it. Called by deploy/Dockerfile.
# Usage: install.sh <extra>,<extra>,...
set -eu
# pip only warns of an extra that is not there.
python3 - "$1" <<'PYTHON'
import sys
import tomllib

known = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]
if missing := sorted({*sys.argv[1].split(",")} - {*known}):
    sys.exit(f"error: EXTRAS={sys.argv[1]}: pyproject.toml has no {', '.join(missing)}; it has {', '.join(known)}")
PYTHON
# Wheels only: nothing is compiled, so no compiler is needed, and no package's setup code runs.
/opt/pip/bin/pip --python /opt/venv/bin/python install --disable-pip-version-check --quiet --only-binary :all: \
    --constraint constraints.txt ".[$1]"
/opt/pip/bin/pip --python /opt/venv/bin/python check
/opt/pip/bin/cyclonedx-py environment /opt/venv/bin/python --pyproject pyproject.toml --mc-type application \
    --output-reproducible --output-format JSON --validate --output-file /opt/venv/sbom.cdx.json
