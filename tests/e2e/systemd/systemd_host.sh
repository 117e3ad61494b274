#!/usr/bin/env bash
# systemd_host.sh: boot this machine's own systemd as PID 1 of a throw-away container.
#
#   up [OPTIONS]              boot; returns when the boot is complete
#   exec [--name N] -- CMD    run CMD inside, as root; its exit status
#   down [--name N]           shut down, remove every trace (idempotent)
#   pid [--name N]            PID of the inner PID 1, as seen from outside
#
# Options of up:
#   --name N            tell several hosts apart (default: "default")
#   --bind-ro SRC[:DST] make a host path visible inside, read-only
#   --while-pid PID     take the host down when process PID (the test runner) ends
#   --setup COMMAND     run before the boot, with the caller's network; $ROOT is the new root
#
# The root inside is an overlay on /: what is installed outside is there inside, nothing written inside gets out.
# /tmp and /run start empty; the network is a loopback of its own. Needs root, util-linux, iproute2 and systemd.
set -euo pipefail

state_base=/run/forkserver-systemd
cgroup_root=/sys/fs/cgroup
self=$(readlink -f "$0")
boot_timeout=120      # seconds, --setup included; the boot itself takes a third of one
stop_timeout=15       # seconds of orderly shutdown before SIGKILL

# What the distribution hooks into a boot and is kept.  All else is unhooked.
boot_units=' systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket
 systemd-journal-flush.service systemd-tmpfiles-setup.service dbus.socket '

die() { echo "systemd_host.sh: $*" >&2; exit 1; }

parse() {   # sets name, the options of a boot, and the array command
  name=default setup='' while_pid='' binds=() command=()
  while [ $# -gt 0 ]; do
    case $1 in
      --name) name=${2:?} ;;
      --bind-ro) binds+=("$(absolute "${2:?}")") ;;
      --while-pid) while_pid=${2:?} ;;
      --setup) setup=${2:?} ;;
      --) shift; command=("$@"); break ;;
      *) die "unknown argument: $1" ;;
    esac
    shift 2
  done
  [[ $name =~ ^[a-z0-9][a-z0-9-]{0,40}$ ]] || die "bad name: $name"
  state=$state_base.$name
  cgroup=forkserver-systemd.$name
  if [ -d $cgroup_root/unified ]; then cgroups=hybrid; else cgroups=unified; fi
}

absolute() {   # SRC[:DST], with a SRC that holds anywhere
  local src=${1%%:*} dst=${1#*:}
  [ -e "$src" ] || die "no such path: $src"
  [ "$dst" != "$1" ] || dst=$(realpath -s "$src")
  echo "$(realpath "$src"):$dst"
}

# One up or down at a time for each name.
lock() {
  while :; do
    exec {lock}>"$state.lock"
    flock -w $((boot_timeout + stop_timeout)) "$lock" || die "$name: another up or down hangs"
    [ ! "$state.lock" -ef "/proc/$$/fd/$lock" ] || break    # else removed meanwhile
    exec {lock}>&-
  done
}

unlock() { [ -z "${lock:-}" ] || { rm -f "$state.lock"; exec {lock}>&-; lock=''; }; }

# PID of the inner PID 1, or failure.  The start time guards against a reused PID.
init_pid() {
  local pid start
  { read -r pid start <"$state/init"; } 2>/dev/null || return 1
  [ "$(start_time "$pid")" = "$start" ] && echo "$pid"
}

start_time() {
  local stat
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 0
  set -- ${stat##*) }                  # the name, in parentheses, may hold spaces
  [ "$1" = Z ] || echo "${20}"
}

# The mount points of the cgroup trees in use: v2 always comes last.
trees() {
  [ "$1" = unified ] || awk '$3 == "cgroup" { print $2 }' /proc/self/mounts
  awk '$3 == "cgroup2" { print $2 }' /proc/self/mounts
}

# --- up ---------------------------------------------------------------------

cmd_up() {
  [ "$(id -u)" = 0 ] || die 'must be root'
  [ -x /usr/lib/systemd/systemd ] || die 'no systemd here: apt-get install systemd'
  parent=''
  lock
  ! init_pid >/dev/null || { lock=''; die "$name: is up already"; }
  trap 'kill -KILL $parent 2>/dev/null || :; remove_traces' EXIT
  trap 'exit 130' INT TERM HUP
  remove_traces keep-lock              # of one that was killed
  mkdir "$state" "$state/root"

  # unshare stays behind as the parent of PID 1; --kill-child ties them together.
  local tree answer='' deadline=$((SECONDS + boot_timeout))
  local namespaces=(--fork --pid --mount --uts --ipc --net --kill-child)
  for tree in $(trees $cgroups); do make_cgroup "$tree/$cgroup"; done
  export name state cgroup cgroups setup
  # What --setup installs, it may need the network for.
  exec {network}</proc/self/ns/net
  export network
  setsid unshare "${namespaces[@]}" -- "$BASH" "$self" _enter "${binds[@]}" \
    </dev/null >"$state/console" 2>&1 {lock}>&- &
  parent=$!

  # Wait for the boot to be complete.  It is "degraded" if a unit that the tester's
  # --setup installed fails, which is the tester's business.
  until [ -s "$state/booted" ]; do
    kill -0 "$parent" 2>/dev/null || boot_failed 'died'
    [ $SECONDS -lt $deadline ] || boot_failed 'did not start'
    sleep 0.02
  done
  until answer=$(become timeout $((deadline - SECONDS + 1)) systemctl is-system-running --wait 2>/dev/null) ||
      [ "$answer" = degraded ]; do
    init_pid >/dev/null || boot_failed 'died'
    [ $SECONDS -lt $deadline ] || boot_failed "did not finish booting: ${answer:-no answer}"
    sleep 0.02
  done

  if [ -n "$while_pid" ]; then         # the guard outlives this command
    setsid "$BASH" "$self" _guard "$while_pid" </dev/null >/dev/null 2>&1 {lock}>&- &
  fi
  disown -a
  trap - EXIT INT TERM HUP
  unlock
}

# Waits for a process to end, then takes the host down, unless it is gone by then.
guard() {
  local start host
  start=$(start_time "$1") host=$(<"$state/init")
  while [ -n "$start" ] && [ "$(start_time "$1")" = "$start" ]; do
    init_pid >/dev/null && [ "$(<"$state/init")" = "$host" ] || exit 0
    sleep 0.3
  done
  cmd_down "$host"
}

boot_failed() { sed 's/^/  | /' "$state/console" >&2 || :; die "$name: the inner systemd $1"; }

make_cgroup() {
  local file
  mkdir "$1"
  for file in cpuset.cpus cpuset.mems; do      # a new v1 cpuset is empty, and unusable
    case $1 in */cpuset/*) cat "$1/../$file" >"$1/$file" ;; esac
  done
}

# First stage inside: PID 1 of the PID namespace already, all else still as outside.
# Joins the cgroups, so that the cgroup namespace is rooted there.
enter() {
  local tree pid rest
  read -r pid rest </proc/self/stat    # the old /proc: the PID as seen from outside
  echo "$pid $(start_time "$pid")" >"$state/init"
  for tree in $(trees $cgroups); do echo 0 >"$tree/$cgroup/cgroup.procs"; done
  exec unshare --cgroup -- "$BASH" "$self" _boot "$@"
}

# Second stage inside: builds the root, moves into it, becomes systemd.  All mounts
# live in this mount namespace only, and die with its last process.
boot() {
  local base=$state/root ROOT=$state/root/root
  mount -t tmpfs -o mode=755 forkserver-test "$base"
  mkdir "$base/upper" "$base/work" "$ROOT"
  mount -t overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" forkserver-test "$ROOT"
  mount_api "$ROOT"
  mount_cgroups "$ROOT/sys/fs/cgroup"
  configure "$ROOT"
  mount_binds "$ROOT" "$@"
  ip link set lo up
  [ -z "$setup" ] || ROOT=$ROOT nsenter --net="/proc/self/fd/$network" "$BASH" -euc "$setup"
  exec {network}<&-

  echo ok >"$state/booted"
  cd "$ROOT"
  pivot_root . .                       # stacks the old root on the new one ...
  umount -l .                          # ... and takes it off
  mount --make-rshared /               # what systemd expects of a container manager
  exec env -i container=forkserver-test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin \
    /usr/lib/systemd/systemd --system --unit=multi-user.target
}

# /proc, /sys, /dev, /run, /tmp.  What would change the kernel is read-only or absent.
mount_api() {
  local root=$1 node
  mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
  for node in sys sysrq-trigger irq bus; do
    [ ! -e "$root/proc/$node" ] || mount --bind -o ro "$root/proc/$node" "$root/proc/$node"
  done
  mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
  mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
  mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"
  mount -t tmpfs -o mode=755,nosuid,noexec tmpfs "$root/dev"
  mkdir "$root"/dev/{pts,shm,mqueue}
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5,nosuid,noexec devpts "$root/dev/pts"
  mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
  mount -t mqueue -o nosuid,nodev,noexec mqueue "$root/dev/mqueue"
  mknod -m 666 "$root/dev/null" c 1 3
  mknod -m 666 "$root/dev/zero" c 1 5
  mknod -m 666 "$root/dev/full" c 1 7
  mknod -m 666 "$root/dev/random" c 1 8
  mknod -m 666 "$root/dev/urandom" c 1 9
  mknod -m 666 "$root/dev/tty" c 5 0
  ln -s pts/ptmx "$root/dev/ptmx"
  ln -s /proc/self/fd "$root/dev/fd"
  ln -s fd/0 "$root/dev/stdin"
  ln -s fd/1 "$root/dev/stdout"
  ln -s fd/2 "$root/dev/stderr"
}

# The cgroup trees, rooted in the host's own cgroups.  systemd picks its mode by what
# it finds mounted.  A controller that is free now cannot get bound to a new v1 tree
# from in here: the kernel forbids that in a cgroup namespace.
mount_cgroups() {
  local id controllers path options=nosuid,nodev,noexec
  if [ "$cgroups" = unified ]; then
    mount -t cgroup2 -o $options cgroup2 "$1"
    return
  fi
  mount -t tmpfs -o mode=755,$options tmpfs "$1"
  while IFS=: read -r id controllers path; do     # 4:memory:/  9:name=systemd:/  0::/
    if [ -z "$controllers" ]; then
      mkdir "$1/unified"
      mount -t cgroup2 -o $options cgroup2 "$1/unified"
    else
      mkdir "$1/${controllers#name=}"
      mount -t cgroup -o "$options,${controllers/#name=/none,name=}" cgroup "$1/${controllers#name=}"
    fi
  done </proc/self/cgroup
}

# Makes the overlay a host of its own, which starts nothing of the machine's.
configure() {
  local root=$1 lib=usr/lib/systemd unit target
  rm -rf "$root/etc/systemd/system"
  mkdir -p "$root"/etc/systemd/{system,system-generators,system.conf.d,journald.conf.d}
  : >"$root/etc/fstab"
  echo "$name" >"$root/etc/hostname"
  tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
  for unit in "$root/$lib"/system-generators/*; do
    ln -sf /dev/null "$root/etc/systemd/system-generators/${unit##*/}"
  done
  for target in sysinit basic local-fs sockets timers multi-user; do
    for unit in "$root/$lib/system/$target.target.wants"/*; do
      unit=${unit##*/}
      case $boot_units in
        *[[:space:]]"$unit"[[:space:]]*) ;;
        *) rm -f "$root/$lib/system/$target.target.wants/$unit" ;;
      esac
    done
  done
  cat >"$root/etc/systemd/system.conf.d/forkserver-test.conf" <<-END
	[Manager]
	ShowStatus=no
	DefaultLimitCORE=0
	DefaultTimeoutStopSec=10s
	END
  # The audit log and the kernel's are the machine's.
  cat >"$root/etc/systemd/journald.conf.d/forkserver-test.conf" <<-END
	[Journal]
	Storage=volatile
	Audit=no
	ReadKMsg=no
	RateLimitIntervalSec=0
	END
}

mount_binds() {
  local root=$1 spec src dst
  shift
  for spec in "$@"; do                 # SRC:DST
    IFS=: read -r src dst <<<"$spec"
    dst=$root$dst
    if [ -d "$src" ]; then mkdir -p "$dst"; else mkdir -p "${dst%/*}"; touch "$dst"; fi
    mount --bind -o ro "$src" "$dst"
  done
}

# --- exec -------------------------------------------------------------------

# Becomes a command in all namespaces and in the cgroups of the inner PID 1, with a clean
# environment, and in the caller's working directory if that exists inside.
#
# Entering a PID namespace takes a child.  nsenter could fork it, but would stop itself
# with it, for ever, when systemd stops all processes to end them.  A shell does not.
# Only the child joins the cgroups: a process there that the inner PID 1 cannot see
# confuses it.  The child dies with its parent, so a killed exec leaves nothing behind.
become() {
  local pid
  pid=$(init_pid) || die "$name: is not up"
  exec nsenter --target "$pid" --mount --uts --ipc --pid --cgroup --net --no-fork -- \
    env -i HOME=/root LANG=C.UTF-8 TERM=dumb SYSTEMD_PAGER= SYSTEMD_COLORS=0 \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin \
    sh -c 'setpriv --pdeathsig KILL -- sh -c "$0" "$@"; exit $?' "$join" "$PWD" "$@"
}

# Run inside, as: sh -c "$join" DIRECTORY COMMAND...
join='
  while IFS=: read -r id controllers path; do
    for tree in "${controllers:-unified}" "${controllers#name=}"; do
      procs=/sys/fs/cgroup/$tree$path/cgroup.procs
      if [ -e "$procs" ]; then echo 0 >"$procs"; break; fi
    done
  done </proc/1/cgroup
  cd -- "$0" 2>/dev/null || cd /
  exec "$@"'

cmd_exec() {
  [ ${#command[@]} -gt 0 ] || die 'exec: no command'
  become "${command[@]}"
}

# --- down -------------------------------------------------------------------

cmd_down() {   # [the only host to take down, if the name has been given to another]
  local pid deadline=$((SECONDS + stop_timeout))
  lock
  if [ -n "${1:-}" ] && [ "$(cat "$state/init" 2>/dev/null)" != "$1" ]; then unlock; return; fi
  if pid=$(init_pid); then
    kill -RTMIN+4 "$pid" || :          # systemd's signal for poweroff.target
    while init_pid >/dev/null && [ $SECONDS -lt $deadline ]; do sleep 0.02; done
  fi
  remove_traces
}

# Ends what still runs; removes the cgroups, in whatever mode they were made, and the
# state.  Killing PID 1 makes the kernel kill all others of the PID namespace.
remove_traces() {
  local pid tree left _
  if pid=$(init_pid); then kill -KILL "$pid" 2>/dev/null || :; fi
  for _ in {1..250}; do                # that takes the kernel a moment
    left=''
    for tree in $(trees hybrid); do
      [ -d "$tree/$cgroup" ] || continue
      find "$tree/$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || left+=" $tree/$cgroup"
    done
    [ -n "$left" ] || break
    sleep 0.02
  done
  [ -z "$left" ] || echo "systemd_host.sh: could not remove$left" >&2
  rm -rf --one-file-system "$state"
  [ "${1:-}" = keep-lock ] || unlock
}

case ${1:-} in
  up|exec|down) verb=$1; shift; parse "$@"; "cmd_$verb" ;;
  pid) shift; parse "$@"; init_pid ;;
  _enter|_boot|_guard) verb=${1#_}; shift; "$verb" "$@" ;;
  *) die 'up, exec, down or pid' ;;
esac
