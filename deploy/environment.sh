#!/bin/sh
# environment.sh PYTHON FOLDER: makes a virtual environment, or makes it anew if it does not work,
# as after an upgrade of Python, or after a start that was cut off.
set -eu
python=$1
folder=$2

fail() {
    echo "$1" >&2
    exit 1
}

if "$folder/bin/python" -I -c 'import pip' 2>/dev/null; then exit; fi

version=$("$python" -c 'import platform; print(platform.python_version())') \
    || fail "$python cannot be run. Set PYTHON=/path/to/python, of version 3.11 or later."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
    || fail "taskapp needs Python 3.11 or later, and $python is $version. Set PYTHON=/path/to/a/later/one."
"$python" -c 'import ensurepip, venv' 2>/dev/null \
    || fail "$python has no module venv. On Debian: apt install python3-venv"
case $PWD in
    *:*) fail "The path $PWD has a colon, which Python's environments cannot have. Move taskapp to another folder." ;;
esac
if [ -e "$folder" ]; then
    echo "The environment in $folder does not work, as after an upgrade of Python: creating it anew ..."
    rm -rf "$folder"
else
    echo "Creating the environment in $folder ..."
fi
"$python" -m venv "$folder" || {
    rm -rf "$folder"
    fail "The environment could not be created in $PWD/$folder."
}
