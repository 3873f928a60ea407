#!/usr/bin/env bash
# Guess: `pip install snowflake-sqlalchemy` takes a SQLAlchemy that it works with.
# What happens: it asks for SQLAlchemy without an upper bound, and a fresh environment gets 2.1. The dialect then fails as soon as
# an engine asks for it: a class that it patches is no longer there.
# Seen with snowflake-sqlalchemy 1.11.1:
#   SQLAlchemy 2.1.9: AttributeError: module 'sqlalchemy.orm.context' has no attribute 'ORMSelectCompileState'
#   SQLAlchemy 2.0.58: snowflake
# What to do: state `sqlalchemy<2.1` beside it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check snowflake-sqlalchemy==1.11.1 SQLAlchemy==2.1.9 snowflake-connector-python==4.8.1
cd "$folder"

cat >look.py <<'EOF'
import sqlalchemy

try:
    said = sqlalchemy.create_engine("snowflake://loader:password@acme/").dialect.name
except Exception as error:
    said = f"{type(error).__name__}: {error}"
print(f"SQLAlchemy {sqlalchemy.__version__}: {said}")
EOF
new=$(timeout 120 venv/bin/python -W ignore look.py)
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check SQLAlchemy==2.0.58
old=$(timeout 120 venv/bin/python -W ignore look.py)
printf '%s\n' "$new" "$old"
if [ "$new" != "SQLAlchemy 2.1.9: AttributeError: module 'sqlalchemy.orm.context' has no attribute 'ORMSelectCompileState'" ] ||
    [ "$old" != "SQLAlchemy 2.0.58: snowflake" ]; then
    echo "CHANGED: $new; $old" >&2
    exit 1
fi
