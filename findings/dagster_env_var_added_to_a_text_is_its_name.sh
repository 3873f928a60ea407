#!/usr/bin/env bash
# Guess: "https://" + EnvVar("HOST") in the arguments of a resource is the address, or an error, since an
# EnvVar has its value only in a run.
# What happens: an EnvVar is a str, and its text is the name of the variable. "+" and join make a plain
# text with the name in it, and the run uses that text. An f-string raises.
# Seen with dagster 1.13.27, HOST=db.example.com:
#   EnvVar("HOST")                 db.example.com
#   "https://" + EnvVar("HOST")    https://HOST
#   "-".join(["a", EnvVar(...)])   a-HOST
#   f"https://{EnvVar('HOST')}"    RuntimeError
# What to do: give the resource the EnvVar alone, and put the text together inside the resource.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27
cd "$folder"

cat >look.py <<'PYTHON'
import os

import dagster as dg

os.environ["HOST"] = "db.example.com"
used = []


class Server(dg.ConfigurableResource):
    url: str


@dg.asset
def orders(server: Server) -> None:
    used.append(server.url)


def url_of(make) -> str:
    try:
        url = make(dg.EnvVar("HOST"))
    except Exception as error:
        return type(error).__name__
    dg.materialize([orders], resources={"server": Server(url=url)})
    return used[-1]


seen = {
    'EnvVar("HOST")': url_of(lambda host: host),
    '"https://" + EnvVar("HOST")': url_of(lambda host: "https://" + host),
    '"-".join(["a", EnvVar("HOST")])': url_of(lambda host: "-".join(["a", host])),
    "f\"https://{EnvVar('HOST')}\"": url_of(lambda host: f"https://{host}"),
}
for text, url in seen.items():
    print(f"{text:<34} {url}")
assert list(seen.values()) == ["db.example.com", "https://HOST", "a-HOST", "RuntimeError"], f"CHANGED: {seen}"
PYTHON
timeout 120 venv/bin/python -W ignore look.py 2>run.log || { grep CHANGED run.log >&2 || tail -n 5 run.log >&2; exit 1; }
