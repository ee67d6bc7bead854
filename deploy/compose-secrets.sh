#!/bin/sh
# Makes what compose.yaml calls secrets, in a folder beside it; what is there is kept.
set -eu
folder="${1:-$(dirname "$0")/secrets}"
mkdir -p "$folder"
chmod 700 "$folder" # the files in it can be read by the users of the containers, who see only theirs

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
