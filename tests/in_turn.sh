#!/usr/bin/env bash
# in_turn.sh COMMAND...: runs each command, also after one that failed, and ends with the tests that
# were skipped and with what failed.
set -uo pipefail
said=$(mktemp)
trap 'rm -f "$said"' EXIT
failed=()
for command in "$@"; do
    bash -c "$command" 2>&1 | tee -a "$said" || failed+=("$command")
done
# The lines of pytest's summaries that match, each once: an in_turn.sh inside has said them before.
summary() {
    grep -E "$1" "$said" | awk '!seen[$0]++'
}
if grep -qE '^SKIPPED ' "$said"; then
    printf '\nWhat was skipped:\n'
    summary '^SKIPPED '
fi
[ "${#failed[@]}" != 0 ] || exit 0
printf '\nWhat failed:\n'
printf '%s\n' "${failed[@]}"
summary '^(make.*\*\*\* |FAIL |ERROR: )'  # of make, and of coverage
summary '^(FAILED|ERROR) [^ ]+\.py'
exit 1
