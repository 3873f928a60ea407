#!/bin/sh
# Runs a code server, and ends it when the process that has the code is gone: then it is started anew. Dagster's code server
# itself neither ends nor starts that process again, and with it goes every schedule and sensor.
#   code_server.sh PORT dagster code-server start --port PORT ...
set -eu

port=$1
shift
python=$(dirname "$(command -v "$1")")/python
ping="$(dirname "$0")/ping_code_server.py"

# A shell makes a process in the background ignore SIGINT. Dagster then ignores SIGTERM too, and a stop would last until it is killed.
"$python" -c 'import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])' "$@" &
server=$!
# A stop reaches the runs too where it is sent to the whole group, as systemd and tini -g do.
stopped=no nap=
trap '[ -z "$nap" ] || kill "$nap" 2>/dev/null || true' EXIT
trap 'stopped=yes; kill -TERM "$server" 2>/dev/null || true; [ -z "$nap" ] || kill "$nap" 2>/dev/null || true' TERM INT

answered=no missed=0
while [ "$stopped" = no ] && kill -0 "$server" 2>/dev/null; do
    # A signal ends the wait, and nothing else does before its time. One that comes before `wait` is not lost either: the trap kills the
    # sleep, or, where there was none yet, the next line ends the loop.
    sleep "${RUN_ELT_PING_SECONDS:-20}" &
    nap=$!
    [ "$stopped" = no ] || break
    wait "$nap" || true
    nap=
    [ "$stopped" = no ] && kill -0 "$server" 2>/dev/null || break
    said=0
    "$python" "$ping" "$port" || said=$?
    # Before the first answer, a port that nobody listens at is a code server that still starts.
    case "$said $answered" in
        "0 "*) answered=yes missed=0 ;;
        "1 "* | "3 yes") missed=$((missed + 1)) ;;
    esac
    if [ "$missed" -ge 3 ]; then
        echo "The process that has the code does not answer. The code server ends, to be started anew." >&2
        kill -TERM "$server" 2>/dev/null || true
        # Without that process it can wait for ever.
        (sleep 30 && kill -KILL "$server") >/dev/null 2>&1 &
        wait "$server" || true
        exit 1
    fi
done
wait "$server"
