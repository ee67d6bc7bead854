#!/bin/sh
# Installs what the tests need from the system, as root on Debian; else says what is missing and fails.
# `system_packages.sh deploy`: what the tests of deploy/ need besides.
# `system_packages.sh python`: what `make test-python` needs, alone.
set -eu
missing=""
if [ "${1:-}" = python ]; then
    [ ! -x /usr/bin/python3 ] || /usr/bin/python3 -c 'import ensurepip' 2>/dev/null || missing=" python3-venv"
fi
command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
command -v node >/dev/null 2>&1 || missing="$missing nodejs"
command -v pgrep >/dev/null 2>&1 || missing="$missing procps"
command -v faketime >/dev/null 2>&1 || missing="$missing faketime"
command -v unshare >/dev/null 2>&1 || missing="$missing util-linux"
if [ "${1:-}" != python ]; then
    command -v chromium-headless-shell >/dev/null 2>&1 || missing="$missing chromium-headless-shell"
    command -v firefox-esr >/dev/null 2>&1 || missing="$missing firefox-esr"
    command -v WebKitWebDriver >/dev/null 2>&1 || missing="$missing webkit2gtk-driver"
    command -v Xvfb >/dev/null 2>&1 || missing="$missing xvfb"
    command -v npm >/dev/null 2>&1 || missing="$missing npm"
    [ -n "$(ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null)" ] || missing="$missing postgresql"
    command -v wrk >/dev/null 2>&1 || missing="$missing wrk"
    [ -x /usr/sbin/nginx ] || missing="$missing nginx"
    command -v java >/dev/null 2>&1 || missing="$missing default-jre-headless"
    command -v openssl >/dev/null 2>&1 || missing="$missing openssl"
fi
if [ "${1:-}" = deploy ]; then
    command -v prometheus >/dev/null 2>&1 || missing="$missing prometheus"
    command -v amtool >/dev/null 2>&1 || missing="$missing prometheus-alertmanager"
    command -v prometheus-node-exporter >/dev/null 2>&1 || missing="$missing prometheus-node-exporter"
    command -v prometheus-postgres-exporter >/dev/null 2>&1 || missing="$missing prometheus-postgres-exporter"
    command -v etcd >/dev/null 2>&1 || missing="$missing etcd-server"
    [ -x /usr/sbin/iptables ] || missing="$missing iptables"
    command -v ip >/dev/null 2>&1 || missing="$missing iproute2"
    command -v etcdctl >/dev/null 2>&1 || missing="$missing etcd-client"
    [ -x /usr/sbin/keepalived ] || missing="$missing keepalived"
    command -v redis-sentinel >/dev/null 2>&1 || missing="$missing redis-sentinel"
    command -v pgbackrest >/dev/null 2>&1 || missing="$missing pgbackrest"
    [ -x /usr/sbin/sshd ] || missing="$missing openssh-server"
    [ -x /usr/bin/dbus-daemon ] || missing="$missing dbus"
    /usr/bin/python3 -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
    command -v socat >/dev/null 2>&1 || missing="$missing socat"
    [ -x /usr/sbin/haproxy ] || missing="$missing haproxy"
    [ -x /usr/sbin/apache2 ] || missing="$missing apache2-bin"
    [ -x /usr/sbin/rsyslogd ] || missing="$missing rsyslog"
    [ -e /usr/lib/"$(uname -m)"-linux-gnu/rsyslog/omelasticsearch.so ] || missing="$missing rsyslog-elasticsearch"
    [ -x /usr/sbin/logrotate ] || missing="$missing logrotate"
    [ -x /usr/sbin/pgbouncer ] || missing="$missing pgbouncer"
    command -v jq >/dev/null 2>&1 || missing="$missing jq"
    command -v podman >/dev/null 2>&1 || missing="$missing podman"
    command -v crun >/dev/null 2>&1 || missing="$missing crun"
    command -v mmdebstrap >/dev/null 2>&1 || missing="$missing mmdebstrap"
    [ -x /usr/bin/catatonit ] || [ -x /usr/libexec/podman/catatonit ] || missing="$missing catatonit"
    [ -x /usr/lib/podman/netavark ] || missing="$missing netavark"
    [ -x /usr/lib/podman/aardvark-dns ] || missing="$missing aardvark-dns"
    command -v restic >/dev/null 2>&1 || missing="$missing restic"
    command -v rclone >/dev/null 2>&1 || missing="$missing rclone"
    command -v man >/dev/null 2>&1 || missing="$missing man-db"
    command -v go >/dev/null 2>&1 || missing="$missing golang-go"
    command -v curl >/dev/null 2>&1 || missing="$missing curl"
    command -v objdump >/dev/null 2>&1 || missing="$missing binutils"
    command -v systemd-analyze >/dev/null 2>&1 || missing="$missing systemd"
    [ -e /usr/lib/"$(uname -m)"-linux-gnu/libseccomp.so.2 ] || missing="$missing libseccomp2"
fi
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing for the tests:$missing"
    apt-get update -qq
    # shellcheck disable=SC2086  # package names are words
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "The tests need these system packages; install them and run make test again:$missing" >&2
    exit 1
fi
