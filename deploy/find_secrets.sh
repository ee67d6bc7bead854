#!/bin/sh
# Looks for secrets in the files named on standard input. In lock files (hashes), templates and nginx.conf (words)
# and tests (passwords of test accounts) it looks only for keys of known formats.
set -eu
find="$1"
names=$(grep -v -e '\.lock$' -e 'package-lock\.json$' -e '\.png$' || true)
tests=$(echo "$names" | grep '^tests/' || true)
others=$(echo "$names" | grep -v -e '^tests/' -e '^templates/' -e '^deploy/nginx' || true)
known="--disable-plugin KeywordDetector --disable-plugin BasicAuthDetector
    --disable-plugin Base64HighEntropyString --disable-plugin HexHighEntropyString"
words='^(password|PASSWORD|Password|SecurePass123!|correct horse battery)$'  # examples
# Names of secrets: those of Kubernetes, and the key of AWS's
keys='\b(secretName|tlsSecret|secretKey): |= "secret-key"$'
# shellcheck disable=SC2086  # split into words on purpose
[ -z "$others" ] || "$find" \
    --exclude-secrets "$words" --exclude-lines "$keys" $others
# shellcheck disable=SC2086
[ -z "$tests" ] || "$find" $known $tests
