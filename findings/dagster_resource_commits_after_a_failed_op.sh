#!/usr/bin/env bash
# Guess: a resource that yields a connection inside "try", and commits in "else", commits only where the
# op succeeded, as a context manager of Python does. A commit that fails is a failed run.
# What happens: the resource is never told of the op's exception. Its generator goes on behind the yield
# as after a success, so "except" does not run and "else" commits half of the work. An error in the part
# behind the yield is logged, and the run is a success.
# Seen with dagster 1.13.27:
#   op fails:        run failed, the resource ran "commit"
#   commit fails:    run succeeded
#   with statement:  the context manager ran "rollback"
# What to do: let the resource hand out a connection, and open the transaction with a "with" inside the op.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27
cd "$folder"

cat >look.py <<'PYTHON'
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

ended = []


@contextmanager
def transaction(commit_fails: bool = False) -> Iterator[list]:
    try:
        yield []
    except BaseException:
        ended.append("rollback")
        raise
    else:
        if commit_fails:
            raise RuntimeError("the commit failed")
        ended.append("commit")


class Warehouse(dg.ConfigurableResource):
    op_fails: bool = False
    commit_fails: bool = False

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["Warehouse"]:
        with transaction(self.commit_fails):
            yield self


@dg.asset
def orders(warehouse: Warehouse) -> None:
    if warehouse.op_fails:
        raise ValueError("the second of three statements failed")


def succeeds(warehouse: Warehouse) -> bool:
    ended.clear()
    return dg.materialize([orders], resources={"warehouse": warehouse}, raise_on_error=False).success


failed_op = succeeds(Warehouse(op_fails=True)), list(ended)
failed_commit = succeeds(Warehouse(commit_fails=True)), list(ended)
ended.clear()
try:
    with transaction():
        raise ValueError("the second of three statements failed")
except ValueError:
    plain = list(ended)
print("op fails: run succeeded, resource ended with:", *failed_op)
print("commit fails: run succeeded, resource ended with:", *failed_commit)
print("with statement:", plain)
assert plain == ["rollback"]
assert failed_op == (False, ["commit"]), f"CHANGED: {failed_op}"
assert failed_commit == (True, []), f"CHANGED: {failed_commit}"
PYTHON
timeout 120 venv/bin/python -W ignore look.py 2>run.log || { grep CHANGED run.log >&2 || tail -n 5 run.log >&2; exit 1; }
