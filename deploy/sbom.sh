#!/bin/sh
# Writes the software bill of materials of what the image adds to its base, as CycloneDX JSON: the Python packages that
# uv.lock pins, with their licences and who needs whom. Into dist/kstream.cdx.json, or the file given. cyclonedx-py
# validates what it writes.
set -eu
cd "$(dirname "$0")/.."
output=${1:-dist/kstream.cdx.json}
tool="cyclonedx-bom==7.5.0"
uv=.uv/bin/uv
[ -x "$uv" ] || { echo "deploy/sbom.sh: there is no $uv: run make setup" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$uv" export --quiet --frozen --extra traces --no-dev --no-emit-project --output-file "$folder/locked.txt"
"$uv" venv --quiet --python .uv/bin/python "$folder/packages"
"$uv" pip sync --quiet --python "$folder/packages" --require-hashes "$folder/locked.txt"
"$uv" venv --quiet --python .uv/bin/python "$folder/tool"
"$uv" pip install --quiet --python "$folder/tool" "$tool"
mkdir -p "$(dirname "$output")"
"$folder/tool/bin/cyclonedx-py" environment --pyproject pyproject.toml --mc-type application --output-reproducible \
    --spec-version 1.6 --output-format JSON --validate --output-file "$output" "$folder/packages/bin/python"
