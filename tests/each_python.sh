#!/bin/sh
# Runs tests on each Python of this machine that taskapp promises to work with, in a venv of its own:
#     each_python.sh FOLDER_OF_VENVS TEST...
# It goes on after a failure, and ends with the versions that failed. Debian's own python3 is one: it
# keeps the first patch release that its Debian came with (3.11.2 in Debian 12), which no image of a
# newer one shows. PYTHONS="/path/to/one ..." names others.
set -eu
venvs=$1
shift
found=""
failed=""
for python in ${PYTHONS:-/usr/bin/python3 python3.11 python3.12 python3.13 python3.14 python3 \
    "$HOME"/.pyenv/versions/3.*/bin/python /opt/hostedtoolcache/Python/3.*/*/bin/python}; do
    path=$(command -v "$python") || continue
    version=$("$path" -c 'import platform, sys; print(platform.python_version())
sys.exit(sys.version_info < (3, 11))' 2>/dev/null) || continue
    case " $found " in *" $version "*) continue ;; esac
    found="$found $version"
    venv=$venvs/$version
    if ! cmp -s requirements-dev.lock "$venv/installed"; then
        echo "Installing what the tests need for Python $version ($path) ..."
        rm -rf "$venv"
        "$path" -m venv "$venv" || { echo "$path has no venv module; on Debian: apt install python3-venv" >&2; exit 1; }
        "$venv/bin/python" deploy/run_pip.py install --require-hashes -r requirements-dev.lock
        cp requirements-dev.lock "$venv/installed"
    fi
    echo "Python $version ($path)"
    # Not bin/pytest, which begins with the path of the checkout that made the venv.
    "$venv/bin/python" -m pytest -p no:cacheprovider -m "not alone" --numprocesses=2 \
        --dist=loadfile "$@" || failed="$failed $version"
done
echo "Tested on Python$found"
[ -z "$failed" ] || { echo "Failed on Python$failed" >&2; exit 1; }
