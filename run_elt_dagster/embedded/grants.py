"""Privileges on tables: recorded and shown, never enforced.

https://docs.snowflake.com/en/sql-reference/sql/grant-privilege
"""

from collections.abc import Sequence

from run_elt_dagster.embedded.engine import EngineSession, Result, status
from run_elt_dagster.embedded.errors import SqlError, existing_object, missing_object, syntax_error
from run_elt_dagster.embedded.objects import Register, TableObject
from run_elt_dagster.embedded.schemas import require_grantor
from run_elt_dagster.embedded.statements import CreateRole, DropRole, Grant, ShowGrants

SUCCESS = "Statement executed successfully."
SYSTEM_ROLES = frozenset({"ACCOUNTADMIN", "ORGADMIN", "PUBLIC", "SECURITYADMIN", "SYSADMIN", "USERADMIN"})
# https://docs.snowflake.com/en/user-guide/security-access-control-privileges#table-privileges
TABLE_PRIVILEGES = (
    "APPLYBUDGET",
    "DELETE",
    "EVOLVE SCHEMA",
    "INSERT",
    "REBUILD",
    "REFERENCES",
    "SELECT",
    "TRUNCATE",
    "UPDATE",
)
# https://docs.snowflake.com/en/sql-reference/sql/show-grants#output
_GRANT_COLUMNS = (
    "created_on TIMESTAMPTZ",
    "privilege VARCHAR",
    "granted_on VARCHAR",
    "name VARCHAR",
    "granted_to VARCHAR",
    "grantee_name VARCHAR",
    "grant_option VARCHAR",
    "granted_by VARCHAR",
)


def grant(session: EngineSession, statement: Grant) -> Result:
    """Give or take privileges on one table; safe to repeat."""
    table = session.locate(statement.target)
    privileges = _privileges(statement)
    with session.atomically(ddl=True):
        known = session.register(table.database).find(table)
        if known is None:
            raise missing_object(str(table))
        require_grantor(session, table)
        _check_grantee(session, statement)
        register = session.register(table.database)
        for privilege in privileges:
            _apply(register, known, statement, privilege, granted_by=session.context.get("role") or known.owner)
    return status(SUCCESS)


def show_grants(session: EngineSession, statement: ShowGrants) -> Result:
    """Return who has which privilege on a table, in the columns of Snowflake."""
    table = session.locate(statement.target)
    with session.atomically(ddl=True):
        register = session.register(table.database)
        known = register.find(table)
        if known is None:
            raise missing_object(str(table))
        owner = (register.created_on(known.object_id), "OWNERSHIP", "ROLE", known.owner, True, known.owner)
        rows = [owner] + [
            (row.created_on, row.privilege, row.grantee_kind, row.grantee, row.grant_option, row.granted_by)
            for row in register.grants(known.object_id)
        ]
        return _grants_result(session, str(table), rows)


def create_role(session: EngineSession, statement: CreateRole) -> Result:
    """Create a role: https://docs.snowflake.com/en/sql-reference/sql/create-role."""
    register = session.register(session.engine.main_database)
    with session.atomically(ddl=True):
        exists = statement.role in SYSTEM_ROLES or statement.role in register.roles()
        if exists and statement.if_not_exists:
            return status(f"{statement.role} already exists, statement succeeded.")
        if exists and not statement.or_replace:
            raise existing_object(statement.role)
        if exists:
            register.drop_role(statement.role)
        register.add_role(statement.role)
    return status(f"Role {statement.role} successfully created.")


def drop_role(session: EngineSession, statement: DropRole) -> Result:
    """Drop a role: https://docs.snowflake.com/en/sql-reference/sql/drop-role."""
    register = session.register(session.engine.main_database)
    with session.atomically(ddl=True):
        if statement.role in register.roles():
            register.drop_role(statement.role)
        elif not statement.if_exists:
            raise missing_object(statement.role)
    return status(f"{statement.role} successfully dropped.")


def _privileges(statement: Grant) -> tuple[str, ...]:
    if statement.privileges in {("ALL",), ("ALL PRIVILEGES",)}:
        return TABLE_PRIVILEGES
    for privilege in statement.privileges:
        if privilege not in {*TABLE_PRIVILEGES, "OWNERSHIP"}:
            raise syntax_error(f"syntax error unexpected '{privilege}'.")
    return statement.privileges


def _check_grantee(session: EngineSession, statement: Grant) -> None:
    """Refuse a role that does not exist; database roles and shares cannot be created here and may be any."""
    if statement.grantee_kind != "ROLE" or statement.grantee in SYSTEM_ROLES | {session.context.get("role")}:
        return
    if statement.grantee not in session.register(session.engine.main_database).roles():
        raise SqlError(
            f"SQL compilation error:\nRole '{statement.grantee}' does not exist or not authorized.",
            errno=2003,
            sqlstate="02000",
        )


def _apply(register: Register, known: TableObject, statement: Grant, privilege: str, *, granted_by: str) -> None:
    to = {"grantee_kind": statement.grantee_kind, "grantee": statement.grantee}
    if privilege == "OWNERSHIP":
        _give_away(register, known, statement)
    elif not statement.revoke:
        register.grant(known.object_id, privilege, grant_option=statement.grant_option, granted_by=granted_by, **to)
    elif statement.grant_option:
        register.take_grant_option(known.object_id, privilege, **to)
    else:
        register.revoke(known.object_id, privilege, **to)


def _give_away(register: Register, known: TableObject, statement: Grant) -> None:
    """Move the ownership, as https://docs.snowflake.com/en/sql-reference/sql/grant-ownership does."""
    if statement.revoke:
        raise syntax_error("ownership cannot be revoked, only granted to another role.")
    if any(row.privilege for row in register.grants(known.object_id)):
        raise SqlError(
            "SQL execution error: Dependent grant of privilege exists. It must be revoked first.",
            errno=3036,
            sqlstate="42501",
        )
    register.set_owner(known.object_id, statement.grantee)


def _grants_result(session: EngineSession, name: str, rows: Sequence[tuple[object, ...]]) -> Result:
    values = ", ".join("(?, ?, 'TABLE', ?, ?, ?, ?, ?)" for _ in rows)
    params: list[object] = []
    for created_on, privilege, kind, grantee, option, granted_by in rows:
        params += [created_on, privilege, name, kind, grantee, "true" if option else "false", granted_by]
    names = ", ".join(column.split()[0] for column in _GRANT_COLUMNS)
    return session.answer(f"SELECT * FROM (VALUES {values}) AS grants({names})", params)
