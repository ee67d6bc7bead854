#!/bin/sh
# taskapp in one file. This script unpacks the archive at its end into the data folder, once, and runs it.
set -eu
release=@RELEASE@
digest=@DIGEST@  # SHA-256 of the list of all files, which has theirs
first_line=@FIRST_LINE@  # of the archive
damaged=65  # sysexits.h: EX_DATAERR

PATH=${PATH:-/usr/sbin:/usr/bin:/sbin:/bin}
export PATH
unset GZIP TAR_OPTIONS  # options that a person has for these programs

fail() {
    echo "$1" >&2
    exit 1
}

data=${TASKAPP_DATA_DIR:-}
home=${HOME:-$(eval "echo ~$(id -un)")}
case $data in
    "") data=${XDG_DATA_HOME:-$home/.local/share}/taskapp ;;
    "~/"*) data=$home/${data#??} ;;
esac
case $data in
    /*) ;;
    "~"*) fail "It is not known where $data is: set TASKAPP_DATA_DIR to a path without ~." ;;
    *) data=$PWD/$data ;;
esac
line_break='
'
case $data in
    *"$line_break"*) fail "The path $data has a line break: set TASKAPP_DATA_DIR to another folder." ;;
esac
program=$data/program-$release

is_whole() (
    cd "$1" && [ "$(sha256sum <files)" = "$digest  -" ] && sha256sum -c files
) >/dev/null 2>&1

archive() {
    tail -n "+$first_line" "$0"
}

unpack() (
    mkdir -p -m 700 "$data" && exec 9>>"$data/program.lock" && flock 9 || return 1
    is_whole "$program" && return  # another process has unpacked it meanwhile
    archive | gzip -t || return "$damaged"
    rm -rf "$data/program.new" && mkdir -m 755 "$data/program.new" \
        && archive | tar -xzof - -C "$data/program.new" || return 1
    is_whole "$data/program.new" || return "$damaged"
    if [ -e "$program" ]; then
        mv "$program" "$data/program.damaged" || return 1
    fi
    mv "$data/program.new" "$program" || return 1
    # The previous release stays, because a server may still run from it.
    { echo "$data/program.damaged"; ls -dt "$data"/program-* | tail -n +3; } \
        | while IFS= read -r old; do rm -rf "$old"; done
)

# What root writes into a folder of somebody else, that user can lead to any place by links.
if [ -e "$data" ] && [ "$(id -u)" = 0 ] && ! [ -O "$data" ]; then
    fail "$data belongs to another user, who runs taskapp here: run it as that user."
fi
if [ -e "$program" ] && ! [ -O "$program" ]; then
    fail "$program belongs to another user, who runs taskapp here: run it as that user."
fi
is_whole "$program" || unpack || case $? in
    "$damaged") fail "$0 is damaged: get it anew." ;;
    *) fail "taskapp cannot unpack itself into $data. Set TASKAPP_DATA_DIR to a folder of this
user's, on a disk with 200 MB free, from which programs may be run." ;;
esac
[ -x "$program/taskapp" ] \
    || fail "Programs may not be run from $data, as on a disk that is mounted with noexec.
Set TASKAPP_DATA_DIR to a folder on another disk."
exec "$program/taskapp" "$@"
