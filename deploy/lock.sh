#!/bin/sh
# Writes requirements.lock and requirements-dev.lock: hashes, and no address of any index.
set -eu
compile="$1"
options="--quiet --generate-hashes --allow-unsafe --strip-extras --no-header
    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host"
export PIP_CONFIG_FILE=/dev/null
unset PIP_FIND_LINKS PIP_INDEX_URL PIP_EXTRA_INDEX_URL
# shellcheck disable=SC2086  # the options are words
"$compile" $options --output-file requirements.lock pyproject.toml
# shellcheck disable=SC2086
"$compile" $options --extra dev --constraint requirements.lock \
    --output-file requirements-dev.lock pyproject.toml
