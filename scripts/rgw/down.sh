#!/usr/bin/env bash
# Stops what scripts/rgw/up.sh started and removes its data.
#
#   scripts/rgw/down.sh [main] [mirror]      both when none is named
#
# A process is stopped by the id that up.sh wrote down, and only while its command line still names
# the instance's own directory: an id that has gone to somebody else is left alone.
set -euo pipefail
cd "$(dirname "$0")/../.."

root=${RGW_ROOT:-$PWD/.cache/rgw}

ours() { tr '\0' ' ' 2>/dev/null < "/proc/$1/cmdline" | grep -qF -- "$directory"; }
gone() {
  for _ in $(seq 40); do
    ours "$1" || return 0
    sleep 0.1
  done
  return 1
}

[ $# -gt 0 ] || set -- main mirror
for name in "$@"; do
  directory=$root/$name
  [ -e "$directory/ceph.conf" ] || continue
  # The keeper first, or it would start the gateway again.
  for part in keeper gateway osd mon; do
    pid=$(cat "$directory/$part.pid" 2>/dev/null) || continue
    { [ -n "$pid" ] && ours "$pid"; } || continue
    # Nothing is worth saving: the data goes with the processes.
    kill -KILL "$pid" 2>/dev/null || true
    gone "$pid" || { echo "scripts/rgw/down.sh: $part of $name ($pid) does not end" >&2; exit 1; }
    printf 'stopped %s of %s (%s)\n' "$part" "$name" "$pid"
  done
  rm -rf -- "$directory"
done
