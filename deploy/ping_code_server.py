"""Asks the code server's port for a sign that the process behind it, which has the code, lives: exit code 0 or 1.

`dagster api grpc-health-check` asks only whether somebody listens, which `dagster code-server start` does without that process
too. A load error is no failure here: a restart would not mend it, and the process is what a reload needs.
"""

import sys

import grpc

# Whoever listens forwards this call of Dagster's own protocol. A later Dagster that lacks it counts as alive.
CALL = "/api.DagsterApi/Ping"


def lives(address: str, *, seconds: float = 15) -> bool:
    """Return whether an answer came in time."""
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(CALL)(b"", timeout=seconds)
        except grpc.RpcError as error:
            return error.code() is grpc.StatusCode.UNIMPLEMENTED
    return True


if __name__ == "__main__":
    sys.exit(0 if lives(f"127.0.0.1:{sys.argv[1]}") else 1)
