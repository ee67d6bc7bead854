#!/bin/sh
# Creates the secrets of compose.yaml in a folder beside it; existing ones are kept.
set -eu
folder="${1:-$(dirname "$0")/secrets}"
mkdir -p "$folder"
chmod 700 "$folder" # its files are world-readable, for the users of the containers, each of which sees only its own files

keep() {
    [ -s "$folder/$1" ] || printf '%s\n' "$2" > "$folder/$1"
    chmod 444 "$folder/$1"
}
random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
address() { echo "postgresql://$1:$(cat "$folder/$2")@database/taskapp"; }

keep database-password "$(random)"
keep owner-password "$(random)"
keep taskapp-password "$(random)"
keep secret-key "$(random)"
keep database-url "$(address taskapp taskapp-password)"
keep migration-database-url "$(address taskapp_owner owner-password)"
