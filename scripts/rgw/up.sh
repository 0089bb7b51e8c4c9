#!/usr/bin/env bash
# Starts real S3 servers for the conformance suite: Ceph RGW from the distribution's packages, on
# loopback, without systemd and without touching anything outside its own directory.
#
#   scripts/rgw/up.sh [main] [mirror]      both when none is named
#
# Each instance is a whole cluster of its own (one monitor, one OSD that keeps its data in memory,
# one gateway), so that main and mirror share nothing. Instance NAME lives in .cache/rgw/NAME;
# endpoint.env in there says where it answers and with which keys. One that already answers is left
# alone; one that does not is thrown away and made again: data never outlives its processes.
#
# RGW_ROOT           another place than .cache/rgw
# RGW_PORT_MAIN      7480; the monitor listens 10000 above
# RGW_PORT_MIRROR    7481
# RGW_MEMORY_BYTES   most that an OSD may hold, 8 GiB
set -euo pipefail
cd "$(dirname "$0")/../.."

root=${RGW_ROOT:-$PWD/.cache/rgw}
memory_bytes=${RGW_MEMORY_BYTES:-$((8 << 30))}
# The name by which bucket.name is recognised as virtual-hosted-style.
domain=s3.localhost
wait_seconds=60

die() { printf 'scripts/rgw/up.sh: %s\n' "$*" >&2; exit 1; }

install_packages() {
  local packages=(ceph-common ceph-mon ceph-osd radosgw curl) missing=() package as_root=()
  for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "please install by hand: ${missing[*]}"
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "needs root or sudo to install: ${missing[*]}"
    as_root=(sudo)
  fi
  printf 'installing %s\n' "${missing[*]}" >&2
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300)
  "${apt[@]}" update -q >&2
  "${apt[@]}" install -q -y --no-install-recommends "${missing[@]}" >&2
}

# Asks $2 until it says yes; $1 names what is waited for.
wait_for() {
  local what=$1 deadline=$((SECONDS + wait_seconds))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || die "$what did not come up, see $directory/log"
    sleep 0.3
  done
}

answers() { curl -sf -o /dev/null -m 5 "http://127.0.0.1:$port/"; }
osd_is_up() { timeout 20 ceph -c "$conf" osd stat 2>/dev/null | grep -q '1 up'; }

write_configuration() {
  cat > "$conf" <<CONF
[global]
fsid = $(cat /proc/sys/kernel/random/uuid)
mon host = [v2:127.0.0.1:$((port + 10000))]
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
ms bind ipv6 = false
ms mon client mode = crc
auth cluster required = none
auth service required = none
auth client required = none
run dir = $directory
admin socket = $directory/\$name.asok
crash dir = $directory/crash
log file = $directory/log/\$name.log
mon cluster log file = $directory/log/cluster.log
log to stderr = false
# One copy of everything, in few placement groups, on one "disk" of memory.
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 5000
mon data avail warn = 1
mon data avail crit = 0
[mon.a]
mon data = $directory/mon
pid file = $directory/mon.pid
[osd.0]
osd data = $directory/osd
osd objectstore = memstore
memstore device bytes = $memory_bytes
pid file = $directory/osd.pid
[client.rgw]
rgw data = $directory/rgw
rgw frontends = beast endpoint=127.0.0.1:$port
rgw dns name = $domain
rgw thread pool size = 64
rgw dynamic resharding = false
rgw enable usage log = false
# Server-side encryption with the client's key is wanted over plain http here.
rgw crypt require ssl = false
CONF
}

start_cluster() {
  cd "$directory"
  local fsid osd
  fsid=$(sed -n 's/^fsid = //p' "$conf")
  osd=$(cat /proc/sys/kernel/random/uuid)
  monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$((port + 10000))]" monmap > log/monmap.out
  ceph-mon -c "$conf" -i a --mkfs --monmap monmap
  ceph-mon -c "$conf" -i a 2> log/mon.err
  echo '{}' | timeout 60 ceph -c "$conf" osd new "$osd" 0 -i - > log/osd-new.out
  ceph-osd -c "$conf" -i 0 --mkfs --osd-uuid "$osd" --no-mon-config 2> log/osd-mkfs.err
  ceph-osd -c "$conf" -i 0 > log/osd.out 2> log/osd.err
  wait_for "the OSD of $name" osd_is_up
  # The gateway stays in the foreground so that its process is known. A few requests that servers
  # newer than this one refuse make it abort: then it is started again, and the log says so.
  # shellcheck disable=SC2016 # expanded by the keeper, not here
  setsid bash -c '
    while :; do
      radosgw -f -c "$1/ceph.conf" -n client.rgw >> "$1/log/gateway.out" 2>&1 < /dev/null &
      echo $! > "$1/gateway.pid"
      wait $!
      date -u "+%FT%TZ the gateway ended and is started again" >> "$1/log/restarts"
      sleep 0.5
    done' keeper "$directory" > /dev/null 2>&1 < /dev/null &
  echo $! > keeper.pid
  disown
  wait_for "the gateway of $name" answers
  cd - > /dev/null
}

# The keys are throw-away, valid on this machine's loopback and nowhere else.
create_user() {
  local upper=${name^^}
  local access_key=RGW${upper}ACCESSKEY0001 secret_key=rgw-$name-secret-on-loopback-only-0001
  timeout 60 radosgw-admin -c "$conf" -n client.rgw user create --uid "$name" \
    --display-name "conformance $name" --access-key "$access_key" --secret-key "$secret_key" \
    > "$directory/log/user.json"
  cat > "$directory/endpoint.env" <<ENV
RGW_ENDPOINT=http://127.0.0.1:$port
RGW_ACCESS_KEY=$access_key
RGW_SECRET_KEY=$secret_key
RGW_DOMAIN=$domain
ENV
}

up() {
  name=$1
  local started=$SECONDS upper=${1^^}
  local variable=RGW_PORT_$upper
  case $name in main) port=${!variable:-7480} ;; mirror) port=${!variable:-7481} ;; esac
  directory=$root/$name
  conf=$directory/ceph.conf
  if [ -e "$directory/endpoint.env" ] && answers; then
    printf '%s: http://127.0.0.1:%s, already up\n' "$name" "$port"
    return
  fi
  RGW_ROOT=$root scripts/rgw/down.sh "$name"
  if answers; then die "something else answers on 127.0.0.1:$port"; fi
  mkdir -p "$directory"/{mon,osd,rgw,log,crash}
  write_configuration
  start_cluster
  create_user
  printf '%s: http://127.0.0.1:%s, up in %s s\n' "$name" "$port" "$((SECONDS - started))"
}

for name in "$@"; do
  case $name in main | mirror) ;; *) die "no instance is called $name" ;; esac
done
[ $# -gt 0 ] || set -- main mirror
install_packages
PATH=/usr/bin:/usr/sbin:/bin:/sbin:$PATH
unset CEPH_ARGS
for instance in "$@"; do up "$instance"; done
