"""Privileges on tables: recorded and shown, never enforced.

https://docs.snowflake.com/en/sql-reference/sql/grant-privilege
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from run_elt_dagster.dialect.errors import SqlError, existing_object, missing_object, syntax_error
from run_elt_dagster.dialect.names import quoted
from run_elt_dagster.embedded.engine import EngineSession
from run_elt_dagster.embedded.features import Created, Feature
from run_elt_dagster.embedded.listings import owner_row
from run_elt_dagster.embedded.objects import HIDDEN_SCHEMA, Register, Table, TableObject
from run_elt_dagster.embedded.results import Result, status
from run_elt_dagster.embedded.statements import ShowGrants
from run_elt_dagster_tests.simulator.grant_statements import HEADS, CreateRole, DropRole, Grant
from run_elt_dagster_tests.simulator.schemas import require_grantor

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


@dataclass(frozen=True)
class GrantRow:
    """One privilege that somebody has."""

    privilege: str
    grantee_kind: str
    grantee: str
    grant_option: bool
    granted_by: str
    created_on: datetime


class Grants:
    """The privileges and roles of one database, on the connection of its register."""

    def __init__(self, register: Register) -> None:
        self._register = register
        self._duck = register.duck
        self._hidden = f"{quoted(register.database)}.{HIDDEN_SCHEMA}"

    def remove(self, object_id: str) -> None:
        self._duck.execute(f"DELETE FROM {self._hidden}.embedded_grants WHERE object_id = ?", [object_id])

    def set_owner(self, object_id: str, owner: str) -> None:
        """Hand an object over to another role."""
        self._duck.execute(
            f"UPDATE {self._hidden}.embedded_objects SET owner = ? WHERE object_id = ?", [owner, object_id]
        )

    def grants(self, object_id: str) -> list[GrantRow]:
        """Return the privileges on an object, ownership apart."""
        rows = self._duck.execute(
            f"""SELECT privilege, grantee_kind, grantee, grant_option, granted_by, created_on
            FROM {self._hidden}.embedded_grants WHERE object_id = ? ORDER BY privilege, grantee_kind, grantee""",
            [object_id],
        ).fetchall()
        return [GrantRow(*row) for row in rows]

    def grant(
        self,
        object_id: str,
        privilege: str,
        *,
        grantee_kind: str,
        grantee: str,
        grant_option: bool,
        granted_by: str,
    ) -> None:
        """Give a privilege; safe to repeat."""
        self.revoke(object_id, privilege, grantee_kind=grantee_kind, grantee=grantee)
        self._duck.execute(
            f"INSERT INTO {self._hidden}.embedded_grants VALUES (?, ?, ?, ?, ?, ?, now())",
            [object_id, privilege, grantee_kind, grantee, grant_option, granted_by],
        )

    def revoke(self, object_id: str, privilege: str, *, grantee_kind: str, grantee: str) -> None:
        """Take a privilege away, if it was given."""
        self._duck.execute(
            f"""DELETE FROM {self._hidden}.embedded_grants
            WHERE object_id = ? AND privilege = ? AND grantee_kind = ? AND grantee = ?""",
            [object_id, privilege, grantee_kind, grantee],
        )

    def take_grant_option(self, object_id: str, privilege: str, *, grantee_kind: str, grantee: str) -> None:
        """Leave somebody a privilege, if it was given, without the right to pass it on."""
        self._duck.execute(
            f"""UPDATE {self._hidden}.embedded_grants SET grant_option = false
            WHERE object_id = ? AND privilege = ? AND grantee_kind = ? AND grantee = ?""",
            [object_id, privilege, grantee_kind, grantee],
        )

    def copy_grants(self, source_id: str, to_id: str) -> None:
        """Give an object the privileges of another one, all but ownership."""
        self._duck.execute(
            f"""INSERT INTO {self._hidden}.embedded_grants
            SELECT ?, privilege, grantee_kind, grantee, grant_option, granted_by, now()
            FROM {self._hidden}.embedded_grants WHERE object_id = ?""",
            [to_id, source_id],
        )

    def roles(self) -> Sequence[str]:
        """Return the roles that were created here."""
        return [row[0] for row in self._duck.execute(f"SELECT role FROM {self._hidden}.embedded_roles").fetchall()]

    def add_role(self, role: str) -> None:
        """Create a role."""
        self._duck.execute(f"INSERT INTO {self._hidden}.embedded_roles VALUES (?)", [role])

    def drop_role(self, role: str) -> None:
        """Drop a role and what was granted to it."""
        self._duck.execute(f"DELETE FROM {self._hidden}.embedded_roles WHERE role = ?", [role])
        self._duck.execute(
            f"DELETE FROM {self._hidden}.embedded_grants WHERE grantee_kind = 'ROLE' AND grantee = ?", [role]
        )


def grants_in(session: EngineSession, database: str) -> Grants:
    return Grants(session.register(database))


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
        grants = grants_in(session, table.database)
        for privilege in privileges:
            _apply(grants, known, statement, privilege, granted_by=session.context.get("role") or known.owner)
    return status(SUCCESS)


def show_grants(session: EngineSession, statement: ShowGrants) -> Result:
    """Return who has which privilege on a table, in the columns of Snowflake."""
    table = session.locate(statement.target)
    with session.reading():
        sql, params = owner_row(session, table)
        known = session.register(table.database).find(table)
        for row in grants_in(session, table.database).grants(known.object_id) if known else ():
            option = "true" if row.grant_option else "false"
            sql += " UNION ALL SELECT ?, ?, ?, ?, ?, ?, ?, ?"
            params += [
                row.created_on,
                row.privilege,
                "TABLE",
                str(table),
                row.grantee_kind,
                row.grantee,
                option,
                row.granted_by,
            ]
        return session.answer(sql, params)


def create_role(session: EngineSession, statement: CreateRole) -> Result:
    """Create a role: https://docs.snowflake.com/en/sql-reference/sql/create-role."""
    register = grants_in(session, session.engine.databases[0])
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
    register = grants_in(session, session.engine.databases[0])
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
    if statement.grantee not in grants_in(session, session.engine.databases[0]).roles():
        raise SqlError(
            f"SQL compilation error:\nRole '{statement.grantee}' does not exist or not authorized.",
            errno=2003,
            sqlstate="02000",
        )


def _apply(register: Grants, known: TableObject, statement: Grant, privilege: str, *, granted_by: str) -> None:
    to = {"grantee_kind": statement.grantee_kind, "grantee": statement.grantee}
    if privilege == "OWNERSHIP":
        _give_away(register, known, statement)
    elif not statement.revoke:
        register.grant(known.object_id, privilege, grant_option=statement.grant_option, granted_by=granted_by, **to)
    elif statement.grant_option:
        register.take_grant_option(known.object_id, privilege, **to)
    else:
        register.revoke(known.object_id, privilege, **to)


def _give_away(register: Grants, known: TableObject, statement: Grant) -> None:
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


def _register_sql(database: str) -> list[str]:
    hidden = f"{quoted(database)}.{HIDDEN_SCHEMA}"
    return [
        f"""CREATE TABLE IF NOT EXISTS {hidden}.embedded_grants (
            object_id VARCHAR, privilege VARCHAR, grantee_kind VARCHAR, grantee VARCHAR, grant_option BOOLEAN,
            granted_by VARCHAR, created_on TIMESTAMPTZ)""",
        f"CREATE TABLE IF NOT EXISTS {hidden}.embedded_roles (role VARCHAR)",
    ]


def _on_create(session: EngineSession, table: Table, created: Created) -> None:
    kept_from = created.replaced or created.origin
    if kept_from is not None and created.creation.copy_grants:
        grants_in(session, table.database).copy_grants(kept_from.object_id, created.object_id)


GRANTS = Feature(
    heads=HEADS,
    handlers={Grant: grant, ShowGrants: show_grants, CreateRole: create_role, DropRole: drop_role},
    register_sql=_register_sql,
    on_create=_on_create,
    on_remove=lambda register, object_id: Grants(register).remove(object_id),
)
