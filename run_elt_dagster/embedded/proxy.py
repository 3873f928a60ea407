"""Loopback without a proxy."""

import os
from collections.abc import Generator
from contextlib import contextmanager

_PROXIES = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")


@contextmanager
def without_proxy_for(host: str) -> Generator[None]:
    """Keep requests to a host off the proxy that the environment names, if it names one.

    The connector (4.8) ignores its argument `no_proxy` unless it is given a proxy as an argument too, so only the
    variable itself helps. It is put back afterwards.
    """
    if not any(os.environ.get(name) for name in _PROXIES):
        yield
        return
    name = "no_proxy" if os.environ.get("no_proxy") else "NO_PROXY"
    before = os.environ.get(name)
    os.environ[name] = f"{before},{host}" if before else host
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before
