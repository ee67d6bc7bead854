#!/bin/sh
# Writes the lock files, with hashes and without the address of an index.
set -eu
compile="$1" # and perhaps --upgrade after it
shift
options="--quiet --generate-hashes --allow-unsafe --no-header
    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host"
export PIP_CONFIG_FILE=/dev/null
unset PIP_FIND_LINKS PIP_INDEX_URL PIP_EXTRA_INDEX_URL
# shellcheck disable=SC2086  # split into words on purpose
"$compile" $options "$@" --strip-extras --extra postgres --extra tracing --output-file requirements.lock pyproject.toml
# With extras: pip 23 refuses pytest-cov's "coverage[toml]" beside a pin of plain coverage if a
# newer release exists.
# shellcheck disable=SC2086
"$compile" $options "$@" --no-strip-extras --extra postgres --extra tracing --extra dev --constraint requirements.lock \
    --output-file requirements-dev.lock pyproject.toml
# A lock of its own: checkov alone brings a hundred packages.
# shellcheck disable=SC2086
"$compile" $options "$@" --strip-extras --output-file tests/deploy/requirements.lock \
    tests/deploy/requirements.in
# shellcheck disable=SC2086
"$compile" $options "$@" --strip-extras --output-file deploy/release/requirements.lock \
    deploy/release/requirements.in
# A lock of its own too, but compatible with taskapp's, because both share an environment.
# shellcheck disable=SC2086
"$compile" $options "$@" --strip-extras --constraint requirements.lock \
    --output-file deploy/binary/requirements.lock deploy/binary/requirements.in
# shellcheck disable=SC2086
"$compile" $options "$@" --strip-extras --output-file deploy/cluster/requirements.lock \
    deploy/cluster/requirements.in
# shellcheck disable=SC2086
"$compile" $options "$@" --strip-extras --output-file deploy/cluster/roles/patroni/files/patroni.lock \
    deploy/cluster/roles/patroni/files/patroni.in
