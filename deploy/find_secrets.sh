#!/bin/sh
# Looks for secrets in the files whose names it reads. Locks hold hashes, templates and nginx.conf only words, and
# tests passwords that protect nothing: there it looks for keys of known forms only.
set -eu
find="$1"
names=$(grep -v -e '\.lock$' -e 'package-lock\.json$' -e '\.png$' || true)
tests=$(echo "$names" | grep '^tests/' || true)
others=$(echo "$names" | grep -v -e '^tests/' -e '^templates/' -e '^deploy/nginx' || true)
known="--disable-plugin KeywordDetector --disable-plugin BasicAuthDetector
    --disable-plugin Base64HighEntropyString --disable-plugin HexHighEntropyString"
words='^(password|PASSWORD|Password|SecurePass123!|correct horse battery)$'  # of examples
# shellcheck disable=SC2086  # the names are words
[ -z "$others" ] || "$find" \
    --exclude-secrets "$words" $others
# shellcheck disable=SC2086
[ -z "$tests" ] || "$find" $known $tests
