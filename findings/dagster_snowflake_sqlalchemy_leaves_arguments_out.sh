#!/usr/bin/env bash
# Guess: `SnowflakeResource(connector="sqlalchemy")` opens the same session as without `connector`, in another wrapping.
# What happens: timeouts, the session's time zone, `client_session_keep_alive` and everything in
# `additional_snowflake_connection_args` are taken by the resource and reach no connection. Nothing tells. A query tag, a
# statement timeout or a proxy that is set there does not stand, and a sign-in waits for the connector's own time.
# Seen with dagster-snowflake 0.29.27, snowflake-sqlalchemy 1.11.1, SQLAlchemy 2.0.58, snowflake-connector-python 4.8.1:
#   left out: client_session_keep_alive login_timeout network_timeout session_parameters timezone
# What to do: set them after the sign-in by ALTER SESSION, or make the engine by hand with `connect_args`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster-snowflake==0.29.27 snowflake-sqlalchemy==1.11.1 \
    SQLAlchemy==2.0.58 snowflake-connector-python==4.8.1
cd "$folder"

cat >look.py <<'EOF'
import snowflake.connector
from dagster_snowflake import SnowflakeResource


class SignIn(Exception): ...


def sign_in(**arguments):
    raise SignIn(set(arguments))


def arguments_of(connector):
    resource = SnowflakeResource(
        connector=connector,
        account="acme",
        user="loader",
        password="a password",
        login_timeout=10,
        network_timeout=60,
        timezone="UTC",
        client_session_keep_alive=True,
        additional_snowflake_connection_args={"session_parameters": {"QUERY_TAG": "nightly"}},
    )
    try:
        with resource.get_connection():
            raise AssertionError
    except SignIn as error:
        return error.args[0]


# Both ways end in this function of the connector. Nothing leaves the machine.
snowflake.connector.connect = sign_in
print("left out:", *sorted(arguments_of(None) - arguments_of("sqlalchemy")))
EOF
seen=$(timeout 120 venv/bin/python -W ignore look.py)
echo "$seen"
if [ "$seen" != "left out: client_session_keep_alive login_timeout network_timeout session_parameters timezone" ]; then
    echo "CHANGED: $seen" >&2
    exit 1
fi
