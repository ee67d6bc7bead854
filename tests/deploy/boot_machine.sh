#!/bin/sh
# boot_machine.sh NAME ADDRESS FOLDER [SHARED]
# Becomes a machine: systemd as process 1, in new namespaces, on a root of its own. Its disk is FOLDER, on
# top of this machine's programs; what it writes is only there. SHARED is readable at the same path.
# tests/deploy/machines.py starts it, and says by a line on standard input that the network is there.
set -eu
name=$1 address=$2 folder=$3 shared=${4:-}
read -r _ # the end of the cable is here
root=$folder/root
mkdir -p "$root"
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$root"
for part in home opt root srv; do
    mkdir -p "$folder/disk/$part" "$root/$part"
    mount --bind "$folder/disk/$part" "$root/$part"
done
for part in etc usr var; do
    mkdir -p "$folder/disk/$part" "$folder/unfinished/$part" "$root/$part"
    mount -t overlay overlay "$root/$part" \
        -o "lowerdir=/$part,upperdir=$folder/disk/$part,workdir=$folder/unfinished/$part"
done
for link in bin lib lib64 sbin; do ln -s "usr/$link" "$root/$link"; done
mkdir "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/tmp" "$root/here"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in full null random tty urandom zero; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
# systemd's own hierarchy, of which this namespace shows only this machine's part.
if [ -d /sys/fs/cgroup/systemd ]; then
    unified=0
    mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
    mkdir "$root/sys/fs/cgroup/systemd"
    mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
else
    unified=1
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
fi
if [ -n "$shared" ]; then
    mkdir -p "$root$shared"
    mount --bind "$shared" "$root$shared"
fi
if [ ! -e "$root/etc/taskapp-machine" ]; then
    # A fresh Debian: nothing that this machine runs is started, nothing that it has configured is there.
    for wants in "$root"/etc/systemd/system/*.wants; do
        find "$wants" -type l ! -name ssh.service -delete
    done
    # With its second name alone, systemd would call Redis enabled, and not start it.
    find "$root/etc/systemd/system" -maxdepth 1 -name '*.service' -type l \
        ! -lname /dev/null ! -name sshd.service -delete
    # Those of SysV would do the same: a K disables it.
    for link in "$root"/etc/rc[2-5].d/S*; do
        mv "$link" "${link%/S*}/K${link##*/S}"
    done
    rm -f "$root/usr/sbin/policy-rc.d" "$root"/etc/haproxy/haproxy.cfg "$root"/etc/pgbackrest.conf
    rm -rf "$root"/var/lib/postgresql/* "$root"/etc/postgresql/*
    # It may not raise limits here.
    mkdir -p "$root/etc/systemd/system/service.d"
    printf '[Service]\nLimitNOFILE=%s\n' "$(ulimit -Hn)" >"$root/etc/systemd/system/service.d/limit.conf"
    mkdir -p "$root/etc/ssh/sshd_config.d"
    cp "$folder/../key.pub" "$root/etc/ssh/taskapp_keys"
    printf '%s\n' 'UsePAM no' 'UseDNS no' 'PermitRootLogin prohibit-password' \
        'AuthorizedKeysFile /etc/ssh/taskapp_keys' >"$root/etc/ssh/sshd_config.d/taskapp.conf"
    systemd-machine-id-setup --root="$root" >/dev/null 2>&1
    echo "$name" >"$root/etc/hostname"
    echo "127.0.0.1 localhost $name" >"$root/etc/hosts"
    touch "$root/etc/taskapp-machine"
fi
hostname "$name"
ip link set lo up
ip address add "$address" dev eth0
ip link set eth0 up
cd "$root"
pivot_root . here
umount -l /here
mount --make-rshared / # as systemd expects it: a service's credentials are mounted for it
mount --bind /dev/null /proc/cgroups # the controllers are those of this machine
exec env -i container=taskapp PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/lib/systemd/systemd --show-status=no \
    systemd.unified_cgroup_hierarchy="$unified" systemd.legacy_systemd_cgroup_controller=1
