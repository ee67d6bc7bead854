#!/bin/sh
# Writes the configuration of one machine of three: etcd.yml, patroni.yml and haproxy-database.cfg.
#
#     SUPERUSER_PASSWORD=… REPLICATION_PASSWORD=… sh configure.sh db1 ADDRESS1 ADDRESS2 ADDRESS3 FOLDER
#
# db1, db2 or db3 is this machine; both passwords are the same on all three. DATA (/var/lib/taskapp-db)
# is the folder of etcd and PostgreSQL, PROGRAMS that of PostgreSQL's programs.
set -eu
[ $# = 5 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
name=$1 first=$2 second=$3 third=$4 folder=$5
case $name in
    db1) address=$first ;;
    db2) address=$second ;;
    db3) address=$third ;;
    *) echo "$name is none of db1, db2 and db3" >&2; exit 2 ;;
esac
programs=${PROGRAMS:-$(find /usr/lib/postgresql -maxdepth 2 -name bin | sort -V | tail -n 1)}
for password in "${SUPERUSER_PASSWORD:?is missing}" "${REPLICATION_PASSWORD:?is missing}"; do
    case $password in
        *[!A-Za-z0-9]*) echo "The passwords may have letters and digits only" >&2; exit 2 ;;
    esac
done
umask 077
mkdir -p "$folder"
for file in etcd.yml patroni.yml haproxy-database.cfg; do
    sed -e "s|@NAME@|$name|g; s|@ADDRESS@|$address|g; s|@FIRST@|$first|g; s|@SECOND@|$second|g" \
        -e "s|@THIRD@|$third|g; s|@DATA@|${DATA:-/var/lib/taskapp-db}|g; s|@PROGRAMS@|$programs|g" \
        -e "s|@SUPERUSER_PASSWORD@|$SUPERUSER_PASSWORD|g; s|@REPLICATION_PASSWORD@|$REPLICATION_PASSWORD|g" \
        "$(dirname "$0")/$file" >"$folder/$file"
done
