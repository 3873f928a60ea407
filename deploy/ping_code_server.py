"""Asks the code server's port for a sign that the process behind it, which has the code, lives.

Exit code 0: it lives. 1: the code server answers, and the process behind it is gone. 2: no answer in time, as on a machine that is
busy. 3: nobody listens, as before a code server is up.

`dagster api grpc-health-check` asks only whether somebody listens, which `dagster code-server start` does without that process
too. A load error is no failure here: a restart would not mend it, and the process is what a reload needs.
"""

import sys

import grpc

# Whoever listens forwards this call of Dagster's own protocol. A later Dagster that lacks it counts as alive.
CALL = "/api.DagsterApi/Ping"
SECONDS = 15
# A code server whose process is gone fails in its own words: UNKNOWN.
CODES = {grpc.StatusCode.UNIMPLEMENTED: 0, grpc.StatusCode.DEADLINE_EXCEEDED: 2, grpc.StatusCode.UNAVAILABLE: 3}


def exit_code(address: str) -> int:
    """Return what became of one call."""
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(CALL)(b"", timeout=SECONDS)
        except grpc.RpcError as error:
            return CODES.get(error.code(), 1)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(f"127.0.0.1:{sys.argv[1]}"))
