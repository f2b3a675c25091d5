#!/bin/bash
# The root half of bed.py: builds a machine's file tree in a mount namespace of its own, and boots systemd in it.
#
#   bed.sh keep DIR CGROUP TTL    keeps the tree; boots a machine for each line "boot" on standard input. At the end of
#                                 the input (whoever wanted the bed is gone, however it went) or after TTL seconds it
#                                 ends the machine and removes DIR and CGROUP.
#   bed.sh init DIR CGROUP        the first process of a machine, before it becomes systemd
#
# / is a tmpfs. /usr, /etc and /var are overlays of the host's: what is written stays in memory. /home, /root, /tmp,
# /opt, /run, /var/log, /var/tmp are new and empty. Own pid, mount, net (lo only), ipc, uts and cgroup namespaces. The
# host's enabled units, drop-ins and generators are left out. Not a security boundary: root is root.
# The tree outlives the machine, so that one can be booted again (or killed, as by a power cut, and booted).
set -euo pipefail
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
: "${BED_DROPPED:=}"                # bed.py says
BED=${2:-} CGROUP=${3:-} TREE=${2:-}/tree

# Of no use in a namespace, slow, or reaching for the host.
MASKED="systemd-udevd.service systemd-udev-trigger.service systemd-udev-settle.service systemd-udevd-control.socket
systemd-udevd-kernel.socket systemd-hwdb-update.service systemd-modules-load.service systemd-sysctl.service
systemd-pstore.service systemd-timesyncd.service systemd-networkd.service systemd-networkd.socket
systemd-resolved.service systemd-journald-audit.socket systemd-firstboot.service systemd-binfmt.service
proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount sys-kernel-debug.mount sys-kernel-tracing.mount
sys-kernel-config.mount sys-fs-fuse-connections.mount dev-hugepages.mount kmod-static-nodes.service modprobe@.service
systemd-machine-id-commit.service systemd-random-seed.service ldconfig.service systemd-remount-fs.service
systemd-boot-system-token.service console-getty.service container-getty@.service getty@.service getty-static.service
serial-getty@.service autovt@.service systemd-ask-password-console.path systemd-ask-password-wall.path
apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer man-db.timer
dpkg-db-backup.timer networking.service ssh.service cron.service rsyslog.service keyboard-setup.service
console-setup.service systemd-logind.service"
GENERATORS="sysv getty gpt-auto fstab cryptsetup veritysetup integritysetup hibernate-resume rc-local bless-boot"

# ------------------------------------------------------------------------------------------- the tree
overlay() {                      # overlay NAME...: the host's /NAME, with our changes in memory
    local name
    for name; do
        mkdir -p "$BED/changes/$name/upper" "$BED/changes/$name/work"
        chmod 755 "$BED/changes/$name/upper"
        mount -t overlay -o "lowerdir=/$name,upperdir=$BED/changes/$name/upper,workdir=$BED/changes/$name/work" \
            "bed-$name" "$TREE/$name"
    done
}
hide() {                         # hide PATH...: below /var, gone from the overlay that is about to be mounted
    local path
    for path; do
        mkdir -p -m 755 "$(dirname "$BED/changes/var/upper/$path")"
        mknod "$BED/changes/var/upper/$path" c 0 0      # a whiteout
    done
}
build_tree() {
    local name
    mkdir "$TREE" "$BED/changes"
    mount -t tmpfs -o mode=0755,size=1G bed-root "$TREE"
    mount -t tmpfs -o mode=0700,size=2G bed-changes "$BED/changes"
    cd "$TREE"
    mkdir usr etc var proc sys dev run tmp root home opt srv mnt media boot work
    chmod 1777 tmp; chmod 700 root
    for name in bin sbin lib lib32 lib64 libx32; do
        if [ -L "/$name" ]; then cp -d "/$name" "$name"
        elif [ -d "/$name" ]; then mkdir "$name"; mount --bind "/$name" "$name"; fi
    done
    hide log tmp lib/systemd lib/private cache/private
    overlay usr etc var
    mkdir -p var/log/journal var/tmp; chmod 1777 var/tmp
    forget_the_host
    cd /
}
forget_the_host() {
    local name
    rm -rf etc/systemd/system etc/systemd/system-generators etc/systemd/system-preset etc/systemd/user \
        etc/systemd/*.conf.d etc/fstab etc/crypttab etc/.pwd.lock etc/cron.d
    rm -f var/lib/dpkg/lock var/lib/dpkg/lock-frontend
    mkdir -p etc/systemd/system etc/systemd/system-generators etc/systemd/journald.conf.d
    : > etc/fstab
    rm -f etc/machine-id etc/hostname etc/hosts   # in a container these are mounts of the host's, not to be written through
    tr -d - < /proc/sys/kernel/random/uuid > etc/machine-id
    echo keyturn-bed > etc/hostname
    printf '127.0.0.1 localhost\n127.0.1.1 keyturn-bed\n' > etc/hosts
    for name in $MASKED; do ln -s /dev/null "etc/systemd/system/$name"; done
    for name in $GENERATORS; do ln -s /dev/null "etc/systemd/system-generators/systemd-$name-generator"; done
    ln -s /lib/systemd/system/multi-user.target etc/systemd/system/default.target
    printf '[Journal]\nStorage=persistent\nForwardToSyslog=no\nRateLimitBurst=0\n' > etc/systemd/journald.conf.d/bed.conf
}

# ------------------------------------------------------------------------------------------- the keeper
MACHINE=
boot() {
    rm -f "$BED/leader"
    # Should the keeper be killed, unshare is; should unshare be, its child is; and with PID 1 all of its namespace.
    setpriv --pdeathsig KILL -- unshare --mount --uts --ipc --net --pid --propagation private --fork \
        --kill-child=SIGKILL -- /bin/bash "$0" init "$BED" "$CGROUP" </dev/null >>"$BED/console.log" 2>&1 9>&- &
    MACHINE=$!
}
halt() {                         # PID 1 itself, so that its parent reaps it: an orphan falls to a host that may not
    local first
    [ -n "$MACHINE" ] || return 0
    { read -r first < "/proc/$MACHINE/task/$MACHINE/children" && kill -KILL "$first"; } 2>/dev/null ||
        kill -KILL "$MACHINE" 2>/dev/null || true
    wait "$MACHINE" 2>/dev/null || true
    MACHINE=
}
clean_up() {
    trap '' TERM INT HUP
    halt
    local tries
    for tries in {1..100}; do            # what the kernel has not reaped yet keeps its group a moment longer
        find "$CGROUP" -depth -type d -exec rmdir {} + 2>/dev/null && break
        sleep 0.02
    done
    cd /
    umount -R "$TREE" 2>/dev/null || umount -l "$TREE" 2>/dev/null || true
    umount "$BED/changes" 2>/dev/null || umount -l "$BED/changes" 2>/dev/null || true
    rm -rf --one-file-system "$BED"
}
keep() {
    local word ttl=$3
    exec 9>"$BED/lock"
    flock -n 9
    trap clean_up EXIT
    trap 'exit 1' TERM INT HUP
    mkdir -p "$CGROUP"
    build_tree
    while [ $SECONDS -lt "$ttl" ] && IFS= read -r -t $((ttl - SECONDS)) word; do
        case $word in boot) halt; boot ;; *) echo "bed.sh: what is $word?" >&2 ;; esac
    done
}

# ------------------------------------------------------------------------------------------- the machine
kernel_mounts() {
    local name
    mount -t proc -o nosuid,nodev,noexec proc proc
    for name in sys irq bus fs acpi scsi sysrq-trigger; do
        [ -e "proc/$name" ] || continue
        mount --bind "proc/$name" "proc/$name"
        [ "$name" != sys ] || mount --bind proc/sys/net proc/sys/net       # ours: the network is our own
        mount -o remount,bind,ro,nosuid,nodev,noexec "proc/$name"
    done
    for name in kcore kmsg; do [ ! -e "proc/$name" ] || mount --bind /dev/null "proc/$name"; done
    mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
    mount -t tmpfs -o mode=0755,nosuid,strictatime,size=4M bed-dev dev
    for name in null zero full random urandom tty; do : > "dev/$name"; mount --bind "/dev/$name" "dev/$name"; done
    mkdir dev/pts dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5,nosuid,noexec devpts dev/pts
    mount -t tmpfs -o mode=1777,nosuid,nodev bed-shm dev/shm
    ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd
    ln -s fd/0 dev/stdin; ln -s fd/1 dev/stdout; ln -s fd/2 dev/stderr; ln -s /proc/kcore dev/core
    mount -t tmpfs -o mode=0755,nosuid,nodev,size=256M bed-run run
    mkdir -p run/lock
}
boot_id() {                      # journald and systemd tell boots apart by it; the kernel's is the host's
    tr -d '\n' < /proc/sys/kernel/random/uuid > run/boot_id; echo >> run/boot_id
    mount --bind run/boot_id proc/sys/kernel/random/boot_id
    mount -o remount,bind,ro proc/sys/kernel/random/boot_id
}
show() {                         # what the host shows inside, read-only: lines of SOURCE<tab>TARGET
    local source target
    while IFS=$'\t' read -r source target; do
        if [ -d "$source" ]; then mkdir -p "$TREE$target"
        else mkdir -p "$(dirname "$TREE$target")"; [ -e "$TREE$target" ] || : > "$TREE$target"; fi
        mount --bind "$source" "$TREE$target"
        mount -o remount,bind,ro "$TREE$target"
    done < "$BED/binds"
}
init() {
    local pid
    [ -n "$BED_DROPPED" ] || { echo "bed.sh: BED_DROPPED must say which capabilities to drop"; exit 1; }
    [ $$ = 1 ] || { echo "bed.sh: init is for PID 1 of a new pid namespace"; exit 1; }
    if [ "${3:-}" != in-its-cgroup ]; then       # first, so that the root of the cgroup namespace is the bed's
        echo 0 > "$CGROUP/cgroup.procs"
        read -r pid _ < /proc/self/stat          # /proc is the host's still: our pid out there
        echo "$pid" > "$BED/leader.new"
        exec unshare --cgroup -- /bin/bash "$0" init "$BED" "$CGROUP" in-its-cgroup
    fi
    cd "$TREE"
    kernel_mounts
    boot_id
    show
    mv "$BED/leader.new" "$BED/leader"
    hostname keyturn-bed
    pivot_root . mnt
    cd /
    umount -l /mnt
    # A container manager's duty: shared propagation below. LoadCredential= silently gives an empty directory without.
    mount --make-rshared /
    # No way to the host itself: modules, raw I/O, the clock, device nodes, the kernel's log (DROPPED in bed.py).
    exec env -i PATH="$PATH" container=keyturn-bed LANG=C.UTF-8 TERM=dumb setpriv --inh-caps=-all \
        --bounding-set="$BED_DROPPED" -- /lib/systemd/systemd --system --show-status=yes
}

case ${1:-} in
    keep|init) "$@" ;;
    *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
