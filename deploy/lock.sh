#!/bin/sh
# Writes requirements.lock and requirements-dev.lock: hashes, and no address of any index.
set -eu
compile="$1"
options="--quiet --generate-hashes --allow-unsafe --no-header
    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host"
export PIP_CONFIG_FILE=/dev/null
unset PIP_FIND_LINKS PIP_INDEX_URL PIP_EXTRA_INDEX_URL
# shellcheck disable=SC2086  # the options are words
"$compile" $options --strip-extras --output-file requirements.lock pyproject.toml
# With the extras: pip 23 refuses "coverage[toml]" of pytest-cov beside a pin of plain coverage,
# once there is a newer one.
# shellcheck disable=SC2086
"$compile" $options --no-strip-extras --extra dev --constraint requirements.lock \
    --output-file requirements-dev.lock pyproject.toml
# Apart from all others: checkov alone brings a hundred packages.
# shellcheck disable=SC2086
"$compile" $options --strip-extras --output-file tests/deploy/requirements.lock \
    tests/deploy/requirements.in
# shellcheck disable=SC2086
"$compile" $options --strip-extras --output-file deploy/release/requirements.lock \
    deploy/release/requirements.in
# Apart too, but beside what taskapp needs: both go into one environment.
# shellcheck disable=SC2086
"$compile" $options --strip-extras --constraint requirements.lock \
    --output-file deploy/binary/requirements.lock deploy/binary/requirements.in
