#!/bin/sh
# As the official image of PostgreSQL does: the first start initializes, and runs the scripts of a folder.
set -eu
data=/var/lib/postgresql/data
mkdir -p "$data"
chown postgres "$data"
chmod 0700 "$data"
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
if [ ! -e "$data/PG_VERSION" ]; then
    as_postgres initdb --pgdata="$data" --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" \
        --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --no-sync
    echo "host all all all scram-sha-256" | as_postgres tee -a "$data/pg_hba.conf"
    as_postgres pg_ctl start --wait --pgdata="$data" --options="-c listen_addresses="
    for script in /docker-entrypoint-initdb.d/*.sql; do
        as_postgres psql -X --username=postgres --set=ON_ERROR_STOP=1 --file="$script"
    done
    as_postgres pg_ctl stop --wait --mode=fast --pgdata="$data"
fi
exec setpriv --reuid=postgres --regid=postgres --init-groups postgres -D "$data" -c "listen_addresses=*" -c fsync=off
