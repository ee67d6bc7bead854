#!/usr/bin/env bash
# in_turn.sh COMMAND...: runs each command, also after one that failed, and ends with what failed.
set -uo pipefail
said=$(mktemp)
trap 'rm -f "$said"' EXIT
failed=()
for command in "$@"; do
    bash -c "$command" 2>&1 | tee -a "$said" || failed+=("$command")
done
[ "${#failed[@]}" != 0 ] || exit 0
printf '\nWhat failed:\n'
printf '%s\n' "${failed[@]}"
# Lines of make and of coverage, and of the summaries of pytest. An in_turn.sh inside has said them before.
for pattern in '^(make.*\*\*\* |FAIL |ERROR: )' '^(FAILED|ERROR) [^ ]+\.py'; do
    grep -E "$pattern" "$said" | awk '!seen[$0]++'
done
exit 1
