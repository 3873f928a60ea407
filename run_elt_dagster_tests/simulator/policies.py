"""Masking, projection, row access, aggregation and join policies: recorded and listed, never enforced.

A policy is set on an object, so a swap takes it along, a clone has it too, and a replaced table is without.
https://docs.snowflake.com/en/user-guide/security-column-intro, https://docs.snowflake.com/en/user-guide/projection-policies,
https://docs.snowflake.com/en/user-guide/security-row-intro, https://docs.snowflake.com/en/user-guide/aggregation-policies and
https://docs.snowflake.com/en/user-guide/join-policies
"""

import json
import uuid
from typing import Any

from sqlglot import exp

from run_elt_dagster.dialect.errors import SqlError, existing_object, missing_object, unsupported
from run_elt_dagster.dialect.names import quoted
from run_elt_dagster.embedded.engine import EngineSession
from run_elt_dagster.embedded.features import Created, Feature
from run_elt_dagster.embedded.objects import HIDDEN_SCHEMA, Register, Table, TableObject
from run_elt_dagster.embedded.reader import Name
from run_elt_dagster.embedded.results import Result, status
from run_elt_dagster_tests.simulator.policy_references import references_sql
from run_elt_dagster_tests.simulator.policy_statements import (
    CLAUSES,
    HEADS,
    KINDS,
    MASKING,
    PROJECTION,
    ROW_ACCESS,
    ColumnPolicy,
    ConstrainTable,
    CreatePolicy,
    DescribePolicy,
    DropPolicy,
    FreeRows,
    MaskColumn,
    RestrictRows,
    TablePolicy,
)
from run_elt_dagster_tests.simulator.schemas import forget_in_lost_schemas

SUCCESS = "Statement executed successfully."


def create_policy(session: EngineSession, statement: CreatePolicy) -> Result:
    """Record a policy: https://docs.snowflake.com/en/sql-reference/sql/create-masking-policy."""
    policy = session.locate(statement.name)
    with session.atomically(ddl=True):
        known = _policy_id(session, policy, statement.kind)
        if known is not None and statement.if_not_exists:
            return status(f"{policy.name} already exists, statement succeeded.")
        if known is not None and not statement.or_replace:
            raise existing_object(str(policy))
        if known is not None:
            _remove(session, policy, known)
        session.duck.execute(
            f"INSERT INTO {session.register(policy.database).part('policies')} VALUES (?, ?, ?, ?, ?)",
            [uuid.uuid4().hex, policy.schema, policy.name, statement.kind, statement.body_sql],
        )
    return status(f"{_words(statement.kind)} {policy.name} successfully created.")


def drop_policy(session: EngineSession, statement: DropPolicy) -> Result:
    """Forget a policy that is set on nothing: https://docs.snowflake.com/en/sql-reference/sql/drop-masking-policy."""
    policy = session.locate(statement.name)
    with session.atomically(ddl=True):
        known = _policy_id(session, policy, statement.kind)
        if known is None and not statement.if_exists:
            raise missing_object(str(policy))
        if known is not None:
            _remove(session, policy, known)
    return status(f"{policy.name} successfully dropped.")


def describe_policy(session: EngineSession, statement: DescribePolicy) -> Result:
    """Say that there is a policy; what it does is not listed: https://docs.snowflake.com/en/sql-reference/sql/desc-masking-policy."""
    _required(session, statement.name, statement.kind)
    return status(SUCCESS)


def mask_column(session: EngineSession, statement: MaskColumn) -> Result:
    """Set a column's masking or projection policy, or unset it: https://docs.snowflake.com/en/sql-reference/sql/alter-table-column."""
    target = session.locate(statement.target)
    with session.atomically(ddl=True):
        known = _known(session, target, statement.if_exists)
        if known is None:
            return status(SUCCESS)
        columns = (statement.column, *(column for column in statement.using if column != statement.column))
        _require_columns(session, target, columns)
        kind, is_new = statement.kind, statement.policy is not None and not statement.force
        if is_new and _has(session, target, known, kind, statement.column):
            words = _words(kind).lower()
            raise _refused(f"Specified column already attached to another {words}: {statement.column}.")
        _detach(session, target, known, kind, statement.column)
        if statement.policy is not None:
            _require_apart(session, target, known, kind, columns)
            _refer(
                session,
                target,
                known,
                policy=statement.policy,
                kind=kind,
                column=statement.column,
                arguments=columns[1:],
            )
    return status(SUCCESS)


def restrict_rows(session: EngineSession, statement: RestrictRows) -> Result:
    """Set a table's row access policy, of which it can have one: https://docs.snowflake.com/en/sql-reference/sql/alter-table."""
    target = session.locate(statement.target)
    with session.atomically(ddl=True):
        known = _known(session, target, statement.if_exists)
        if known is None:
            return status(SUCCESS)
        _require_columns(session, target, statement.columns)
        if _has(session, target, known, ROW_ACCESS):
            raise _refused(f"Object {target.name} already has a ROW_ACCESS_POLICY.")
        _require_apart(session, target, known, ROW_ACCESS, statement.columns)
        _refer(
            session,
            target,
            known,
            policy=statement.policy,
            kind=ROW_ACCESS,
            column=None,
            arguments=statement.columns,
        )
    return status(SUCCESS)


def free_rows(session: EngineSession, statement: FreeRows) -> Result:
    """Take a table's row access policy away: https://docs.snowflake.com/en/sql-reference/sql/alter-table."""
    target = session.locate(statement.target)
    with session.atomically(ddl=True):
        known = _known(session, target, statement.if_exists)
        if known is None:
            return status(SUCCESS)
        policy_id = statement.policy and _required(session, statement.policy, ROW_ACCESS)
        gone = _detach(session, target, known, ROW_ACCESS, policy_id=policy_id)
        if statement.policy is not None and not gone:
            raise _refused(f"Policy {statement.policy} is not attached to {target.name}.")
    return status(SUCCESS)


def constrain_table(session: EngineSession, statement: ConstrainTable) -> Result:
    """Set a table's aggregation or join policy, of which it can have one each, or unset it.

    https://docs.snowflake.com/en/sql-reference/sql/alter-table
    """
    target, kind = session.locate(statement.target), statement.kind
    with session.atomically(ddl=True):
        known = _known(session, target, statement.if_exists)
        if known is None:
            return status(SUCCESS)
        _require_columns(session, target, statement.key)
        if statement.policy is not None and not statement.force and _has(session, target, known, kind):
            raise _refused(f"Object {target.name} already has a {kind}.")
        _detach(session, target, known, kind)
        if statement.policy is not None:
            policy = statement.policy
            _refer(session, target, known, policy=policy, kind=kind, column=None, arguments=statement.key)
    return status(SUCCESS)


def _has(session: EngineSession, target: Table, known: TableObject, kind: str, column: str | None = None) -> bool:
    """Return whether an object, or a column of it, has a policy of a kind."""
    register = session.register(target.database)
    row = session.duck.execute(
        f"""SELECT 1 FROM {register.part("policy_references")} AS refs JOIN {register.part("policies")} AS policies
        ON policies.policy_id = refs.policy_id
        WHERE object_id = ? AND kind = ? AND column_name IS NOT DISTINCT FROM ?""",
        [known.object_id, kind, column],
    ).fetchone()
    return row is not None


def _any_of(session: EngineSession, table: Table, object_id: str, kind: str) -> bool:
    register = session.register(table.database)
    row = session.duck.execute(
        f"""SELECT 1 FROM {register.part("policy_references")} AS refs JOIN {register.part("policies")} AS policies
        ON policies.policy_id = refs.policy_id WHERE object_id = ? AND kind = ?""",
        [object_id, kind],
    ).fetchone()
    return row is not None


def _detach(
    session: EngineSession,
    target: Table,
    known: TableObject,
    kind: str,
    column: str | None = None,
    *,
    policy_id: str | None = None,
) -> bool:
    """Take a policy of a kind off an object or a column of it, and return whether there was one."""
    register = session.register(target.database)
    gone = session.duck.execute(
        f"""DELETE FROM {register.part("policy_references")} WHERE object_id = ? AND column_name IS NOT DISTINCT FROM ?
        AND policy_id IN (SELECT policy_id FROM {register.part("policies")} WHERE kind = ?)
        AND policy_id = coalesce(?, policy_id) RETURNING 1""",
        [known.object_id, column, kind, policy_id],
    ).fetchall()
    return bool(gone)


def _require_apart(
    session: EngineSession, target: Table, known: TableObject, kind: str, columns: tuple[str, ...]
) -> None:
    """Require that no masking or row access policy is called with a projection-constrained column.

    https://docs.snowflake.com/en/user-guide/projection-policies: no row access policy, and no condition of a masking policy.
    """
    called = columns[1:] if kind == MASKING else columns
    if kind != PROJECTION and any(_has(session, target, known, PROJECTION, column) for column in called):
        raise _refused(f"A projection constrained column cannot be referenced by a {_words(kind).lower()}.")


def _known(session: EngineSession, target: Table, if_exists: bool) -> TableObject | None:
    known = session.register(target.database).find(target)
    if known is None and not if_exists:
        raise missing_object(str(target))
    return known


def _refer(
    session: EngineSession,
    target: Table,
    known: TableObject,
    *,
    policy: Name,
    kind: str,
    column: str | None,
    arguments: tuple[str, ...],
) -> None:
    policy_id = _required(session, policy, kind)
    located = session.locate(policy)
    if located.database != target.database:
        raise _refused(f"The embedded Snowflake requires the policy {located} in the database of {target}.")
    session.duck.execute(
        f"INSERT INTO {session.register(target.database).part('policy_references')} VALUES (?, ?, ?, ?)",
        [policy_id, known.object_id, column, json.dumps(arguments, ensure_ascii=False) if arguments else None],
    )


def _required(session: EngineSession, policy: Name, kind: str) -> str:
    located = session.locate(policy)
    policy_id = _policy_id(session, located, kind)
    if policy_id is None:
        raise missing_object(str(located))
    return policy_id


def _policy_id(session: EngineSession, policy: Table, kind: str) -> str | None:
    row = session.duck.execute(
        f"""SELECT policy_id FROM {session.register(policy.database).part("policies")}
        WHERE schema_name = ? AND name = ? AND kind = ?""",
        [policy.schema, policy.name, kind],
    ).fetchone()
    return row[0] if row else None


def _remove(session: EngineSession, policy: Table, policy_id: str) -> None:
    register = session.register(policy.database)
    if session.duck.execute(
        f"SELECT 1 FROM {register.part('policy_references')} WHERE policy_id = ?", [policy_id]
    ).fetchone():
        raise _refused(
            f"Policy {policy.name} cannot be dropped/replaced as it is associated with one or more entities."
        )
    session.duck.execute(f"DELETE FROM {register.part('policies')} WHERE policy_id = ?", [policy_id])


def _require_columns(session: EngineSession, target: Table, columns: tuple[str, ...]) -> None:
    present = {str(row[0]) for row in session.duck.execute(f"DESCRIBE {target.sql}").fetchall()}
    for column in columns:
        if column not in present:
            raise SqlError(f"SQL compilation error:\ninvalid identifier '{column}'", errno=904, sqlstate="42000")


def _refused(message: str) -> SqlError:
    return SqlError(f"SQL compilation error:\n{message}", errno=9999, sqlstate="42601")


def _words(kind: str) -> str:
    return kind.replace("_", " ").capitalize()


def _references(session: EngineSession, call: exp.Anonymous) -> str:
    def readable(name: Name) -> Table:
        table = session.locate(name)
        if session.register(table.database).existing_name(table.schema, table.name) != table.name:
            raise missing_object(str(table))
        return table

    return references_sql(call, readable)


def _on_create(session: EngineSession, table: Table, created: Created) -> None:
    """Give a new table the policies of its statement, and a clone its source's; LIKE takes no row access policy along.

    https://docs.snowflake.com/en/user-guide/security-row-intro
    """
    for clause in created.creation.clauses:
        _attach(session, table, created.object_id, clause)
    if created.origin is None:
        return
    references, source = session.register(table.database).part("policy_references"), created.origin.object_id
    if created.is_clone:
        session.duck.execute(
            f"INSERT INTO {references} SELECT policy_id, ?, column_name, arguments FROM {references} WHERE object_id = ?",
            [created.object_id, source],
        )
    elif any(_any_of(session, table, source, kind) for kind in KINDS if kind != ROW_ACCESS):
        raise unsupported("tell whether LIKE takes policies along", str(table))


def _attach(session: EngineSession, table: Table, object_id: str, clause: Any) -> None:
    """Set the policy of a clause of CREATE TABLE, if it is one."""
    known = session.register(table.database).find(table)
    if isinstance(clause, TablePolicy):
        column, columns = None, clause.columns
    elif isinstance(clause, ColumnPolicy):
        column, columns = clause.column, (clause.column, *(each for each in clause.using if each != clause.column))
    else:
        return
    assert known is not None
    assert known.object_id == object_id
    _require_columns(session, table, columns)
    if _has(session, table, known, clause.kind, column):
        raise _refused(f"Object {table.name} already has a {clause.kind}.")
    arguments = columns if column is None else columns[1:]
    _refer(session, table, known, policy=clause.policy, kind=clause.kind, column=column, arguments=arguments)


def _on_remove(register: Register, object_id: str) -> None:
    register.duck.execute(f"DELETE FROM {register.part('policy_references')} WHERE object_id = ?", [object_id])


def _register_sql(database: str) -> list[str]:
    hidden = f"{quoted(database)}.{HIDDEN_SCHEMA}"
    return [
        f"""CREATE TABLE IF NOT EXISTS {hidden}.embedded_policies (
            policy_id VARCHAR, schema_name VARCHAR, name VARCHAR, kind VARCHAR, body_sql VARCHAR)""",
        f"""CREATE TABLE IF NOT EXISTS {hidden}.embedded_policy_references (
            policy_id VARCHAR, object_id VARCHAR, column_name VARCHAR, arguments VARCHAR)""",
    ]


POLICIES = Feature(
    heads=HEADS,
    clauses=CLAUSES,
    handlers={
        CreatePolicy: create_policy,
        DropPolicy: drop_policy,
        DescribePolicy: describe_policy,
        MaskColumn: mask_column,
        ConstrainTable: constrain_table,
        RestrictRows: restrict_rows,
        FreeRows: free_rows,
    },
    register_sql=_register_sql,
    table_functions={"POLICY_REFERENCES": _references},
    on_create=_on_create,
    on_remove=_on_remove,
    on_forget=lambda register: forget_in_lost_schemas(register, "policies"),
)
