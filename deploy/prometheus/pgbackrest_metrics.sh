#!/bin/sh
# Writes the age and size of pgBackRest's newest backups for Prometheus, as the user who may read the
# repository (needs jq): the folder is that of node_exporter's textfile collector. Once a minute, by a timer:
#
#     sh pgbackrest_metrics.sh /var/lib/prometheus/node-exporter
set -eu
[ $# = 1 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
made=$(mktemp "$1/pgbackrest.XXXXXX")
trap 'rm -f "$made"' EXIT
pgbackrest --output=json info | jq -r '
    def metric($name; $help): "# HELP \($name) \($help)", "# TYPE \($name) gauge",
        (.[] | {stanza: .name, value: (.value // empty)} | "\($name){stanza=\"\(.stanza)\"} \(.value)");
    (map(.value = .status.code)
        | metric("pgbackrest_stanza_status"; "0 if the repository and the database are as they should be.")),
    (map(.value = (.backup | length))
        | metric("pgbackrest_backups"; "Number of backups.")),
    (map(.value = .backup[-1].timestamp.stop)
        | metric("pgbackrest_backup_last_success_timestamp_seconds"; "When the newest backup ended.")),
    (map(.value = (.backup[-1].info.repository.size // .backup[-1].info.size))
        | metric("pgbackrest_backup_size_bytes"; "What the newest backup refers to in the repository."))
' >"$made"
chmod 0644 "$made"
mv "$made" "$1/pgbackrest.prom"
