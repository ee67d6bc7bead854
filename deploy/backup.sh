#!/bin/sh
# Dumps the database each so many seconds, and removes dumps of more than so many days.
# Usage: backup.sh SECONDS DAYS FOLDER; the address of the database is a secret.
set -eu
seconds="$1" days="$2" folder="$3"
secret="${DATABASE_URL_FILE:-/run/secrets/migration-database-url}"
trap 'exit 0' TERM INT # the first process of a container is stopped by nothing else
while :; do
    name="$folder/taskapp-$(date -u +%Y%m%dT%H%M%SZ).dump"
    # A whole dump has its name; one that was cut has not, and PostgreSQL itself has read it once.
    if pg_dump --format=custom --file="$name.partial" --dbname="$(cat "$secret")" \
        && pg_restore --list "$name.partial" > /dev/null; then
        mv "$name.partial" "$name"
        echo "backed up to $name"
        find "$folder" -name 'taskapp-*.dump' -mtime "+$days" -delete
    else
        rm -f "$name.partial"
        echo "the backup failed" >&2
    fi
    sleep "$seconds" & wait $!
done
