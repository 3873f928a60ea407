"""One session's SQL on DuckDB: fakesnow translates and executes, with what is added here around it.

fakesnow: https://github.com/tekumara/fakesnow. Whatever sqlglot cannot say in DuckDB's dialect it leaves out with a log
message; here that is an error, so a statement never silently does something else.
"""

import contextlib
import hashlib
import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection
from fakesnow import info_schema
from fakesnow.conn import FakeSnowflakeConnection
from fakesnow.cursor import FakeSnowflakeCursor
from fakesnow.instance import FakeSnow
from fakesnow.statement_type import statement_type_id
from fakesnow.transforms.stage import LOCAL_BUCKET_PATH
from snowflake.connector.errors import Error
from sqlglot import Expr, exp
from sqlglot.errors import ErrorLevel, UnsupportedError

from run_elt_dagster.dialect import types
from run_elt_dagster.dialect.errors import (
    SqlError,
    existing_object,
    from_duckdb,
    missing_object,
    missing_schema,
    syntax_error,
    unsupported,
)
from run_elt_dagster.dialect.macros import Macros, TransactionMacros
from run_elt_dagster.dialect.names import literal, quoted
from run_elt_dagster.dialect.parser import parsed
from run_elt_dagster.dialect.quiet import quietly
from run_elt_dagster.dialect.scope import Relation
from run_elt_dagster.embedded import queries
from run_elt_dagster.embedded.disk import opening, unmerged
from run_elt_dagster.embedded.features import Feature, TableFunction
from run_elt_dagster.embedded.objects import KEPT_PREFIX, Register, Table, TableObject
from run_elt_dagster.embedded.past import forget_rows, keep_rows
from run_elt_dagster.embedded.reader import Name
from run_elt_dagster.embedded.results import Result, allow_arrow_output, result_of, status
from run_elt_dagster.embedded.sql_files import database_sql, listing_sql, sql_file
from run_elt_dagster.embedded.statements import DEFAULT_SCHEMA

logger = logging.getLogger(__name__)
# fakesnow 0.12 makes a folder for stages where it is imported, and leaves it behind. Stages are refused here.
with contextlib.suppress(OSError):
    Path(LOCAL_BUCKET_PATH).rmdir()

# What fakesnow would keep in memory, or accept without any effect, is left out.
KINDS = frozenset({"DATABASE", "SCHEMA", "TABLE", "VIEW"})
ROLLBACK_ATTEMPTS = 100

_DDL = (exp.Create, exp.Drop, exp.Alter)
_QUALIFIERS = 2


class Engine(FakeSnow):
    """All databases of a directory, in one DuckDB instance.

    Args:
        directory: Where the database files are, one for each Snowflake database.
        databases: Databases to open; whatever is missing is created.
        features: What its sessions can do besides.
    """

    def __init__(self, directory: Path, databases: Sequence[str], features: Sequence[Feature] = ()) -> None:
        super().__init__(create_database_on_connect=False, create_schema_on_connect=False, db_path=directory)
        self.features = tuple(features)
        self.heads = [head for feature in features for head in feature.heads]
        self.clauses = [clause for feature in features for clause in feature.clauses]
        self.table_functions: dict[str, TableFunction] = {"POLICY_REFERENCES": queries.no_policies}
        for feature in features:
            self.table_functions.update(feature.table_functions)
        self.handlers = {kind: handler for feature in features for kind, handler in feature.handlers.items()}
        try:
            self._open(directory, databases)
        except BaseException:
            # DuckDB keeps a file for this process as long as the connection is open.
            self.duck_conn.close()
            raise

    def _open(self, directory: Path, databases: Sequence[str]) -> None:
        self.duck_conn.execute(sql_file("settings") + sql_file("start"))
        self.macros = Macros(self.duck_conn)
        self.directory = directory
        self.databases: list[str] = []
        # Its views with their columns: DuckDB binds all that a view reads to tell them.
        self.information_schema: dict[Table, Relation] = {}
        for database in databases:
            path = directory / f"{database}.db"
            with opening(path):
                self.duck_conn.execute(f"ATTACH {literal(str(path))} AS {database}")
                self.adopt(self.duck_conn, database)

    def adopt(self, duck: DuckDBPyConnection, database: str) -> None:
        """Give an attached database the macros that it calls, its register, the views on it, and the schema PUBLIC."""
        if database not in self.databases:
            self.databases.append(database)
        self.macros.create_for(database)
        self._lay(duck, database)
        duck.execute(listing_sql(self.databases))
        self.information_schema.clear()
        # A process that was killed may have dropped a schema and no more.
        self.forget_missing(Register(duck, database))
        # Every database has one: https://docs.snowflake.com/en/sql-reference/sql/create-database
        duck.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(database)}.{DEFAULT_SCHEMA}")

    def _lay(self, duck: DuckDBPyConnection, database: str) -> None:
        """Create a database's register and the views on it, unless the same statements have created them before."""
        statements = [info_schema.per_db_creation_sql(database), database_sql(database)]
        statements += [sql for feature in self.features for sql in feature.register_sql(database)]
        # The views read those of start.sql, and DuckDB has stored what columns these had.
        known = "\n".join([duckdb.__version__, sql_file("start"), *statements])
        register, fact = Register(duck, database), f"laid {hashlib.sha256(known.encode()).hexdigest()}"
        with contextlib.suppress(duckdb.CatalogException):
            if register.knows(fact):
                return
        with transaction(duck):
            for sql in statements:
                duck.execute(sql)
            register.forget("laid ")
            register.record(fact)

    def forget(self, register: Register, object_id: str) -> None:
        """Forget an object and whatever features know about it."""
        register.remove(object_id)
        forget_rows(register, object_id)
        for feature in self.features:
            feature.on_remove(register, object_id)

    def forget_missing(self, register: Register) -> None:
        """Forget the objects whose tables are gone, as after DROP SCHEMA."""
        for object_id in register.missing():
            self.forget(register, object_id)
        for feature in self.features:
            feature.on_forget(register)

    def close(self) -> None:
        """Write everything into the database files and let go of them.

        What was committed is kept where that fails: it stays in the file with the end `.wal`, which is read at the next start.
        https://duckdb.org/docs/stable/sql/statements/checkpoint
        """
        for database in self.databases:
            try:
                self.duck_conn.execute(f"CHECKPOINT {quoted(database)}")
            except duckdb.Error as error:
                logger.warning("%s", unmerged(self.directory / f"{database}.db", error))
        for database in self.databases:
            with contextlib.suppress(duckdb.Error):
                self.duck_conn.execute(f"DETACH {quoted(database)}")
        self.duck_conn.close()


class EngineSession(FakeSnowflakeConnection):
    """A session of fakesnow, with a transaction around each statement, or around those from BEGIN to COMMIT.

    Its temporary tables hide others of the same name.
    """

    # What may be created, dropped and altered, what ALTER may do, and what may be executed at all, as sqlglot reads it.
    kinds = KINDS
    alterations: tuple[type[Expr], ...] = (exp.ColumnDef, exp.Drop, exp.RenameColumn, exp.AlterColumn)
    accepted: tuple[type[Expr], ...] = (
        *(exp.Query, exp.Values, exp.Show, exp.Describe, exp.Comment),
        *(*queries.CHANGES, *_DDL),
    )

    def __init__(self, engine: Engine, database: str | None, schema: str | None) -> None:
        super().__init__(
            engine.duck_conn.cursor(),
            engine.results_cache,
            create_database=False,
            create_schema=False,
            db_path=engine.db_path,
            paramstyle="qmark",
        )
        self.engine = engine
        self.context: Mapping[str, str | None] = {}
        self.temporary: set[str] = set()
        self.macros: Macros | TransactionMacros = engine.macros
        # Whether BEGIN has opened a transaction, and whether one of its statements has failed: then it can only be rolled back.
        self.is_open = self.is_spoilt = False
        if database:
            # What does not exist is only missed when it is needed, as on Snowflake.
            with contextlib.suppress(SqlError):
                self.use(database, schema or DEFAULT_SCHEMA)

    @property
    def duck(self) -> DuckDBPyConnection:
        """The session's connection to DuckDB."""
        return self._duck_conn

    @property
    def in_transaction(self) -> bool:
        """Whether the session has begun a transaction that is still open."""
        return self.is_open

    def begin(self) -> None:
        """Begin a transaction; a second BEGIN changes nothing: https://docs.snowflake.com/en/sql-reference/sql/begin."""
        if not self.is_open:
            self.begin_in_duck()
            self.is_open = True

    def begin_in_duck(self) -> None:
        """Begin a transaction of DuckDB's, with macros of its own until it ends."""
        self.macros = TransactionMacros(self.duck, self.engine.macros.missing())
        self.duck.begin()

    def end(self, *, commit: bool) -> None:
        """Commit or roll back the open transaction, if there is one; after a failed statement, to commit is an error (009999)."""
        is_open, is_spoilt, self.is_open, self.is_spoilt = self.is_open, self.is_spoilt, False, False
        self.macros = self.engine.macros
        try:
            if is_open and commit and not is_spoilt:
                self.duck.commit()
                is_open = False
        finally:
            if is_open:
                roll_back(self.duck)
        if is_spoilt and commit:
            raise spoilt_transaction()

    def atomically(self, *, ddl: bool) -> AbstractContextManager[None]:
        """Make what happens inside one transaction.

        DDL first commits the session's open transaction, DML joins it: https://docs.snowflake.com/en/sql-reference/transactions#ddl
        """
        if ddl:
            self.end(commit=True)
        return contextlib.nullcontext() if self.is_open else transaction(self.duck)

    def reading(self) -> AbstractContextManager[None]:
        """Let the queries inside see one state of all tables."""
        return self.atomically(ddl=False)

    def use(self, database: str, schema: str) -> None:
        """Make a schema the current one: https://docs.snowflake.com/en/sql-reference/sql/use-schema."""
        if not self.register(database).has_schema(schema):
            text = "SQL compilation error:\nObject does not exist, or operation cannot be performed."
            raise SqlError(text, errno=2043, sqlstate="02000")
        self.duck.execute(f"USE {quoted(database)}.{quoted(schema)}")
        self.database, self._schema = database, schema
        self.database_set = self.schema_set = True

    def register(self, database: str) -> Register:
        """Return the register of a database."""
        return Register(self.duck, database)

    def found(self, table: Table) -> TableObject:
        """Return a table's object; where there is no such table it is an error (002003)."""
        known = self.register(table.database).find(table)
        if known is None:
            raise missing_object(str(table))
        return known

    def require_usable(self, use: str, table: Table, known: TableObject) -> None:
        """Let the features refuse what a statement is about to do with a table."""
        for feature in self.engine.features:
            feature.on_use(use, known, str(table))

    @contextmanager
    def altering(self, table: Table, *, if_exists: bool, use: str | None = None) -> Generator[TableObject | None]:
        """Hold a transaction around what happens to a table; yield its object, None where it is missing and may be.

        One that may not be missing is an error (002003), and features may refuse the use.
        """
        with self.atomically(ddl=True):
            known = self.register(table.database).find(table) if if_exists else self.found(table)
            if known and use:
                self.require_usable(use, table, known)
            yield known

    def locate(self, name: Name) -> Table:
        """Return where a name points to from this session: the schema must be there, the table need not."""
        (located,) = self.locate_all(name)
        return located

    def locate_all(self, *names: Name) -> list[Table]:
        """Return where several names point to, looking each schema up once; otherwise as `locate`."""
        located = [self.complete(name) for name in names]
        for database, schema in dict.fromkeys((table.database, table.schema) for table in located):
            if not self.register(database).has_schema(schema):
                raise missing_schema(database, schema)
        for table in located:
            if table.name.startswith(KEPT_PREFIX):
                raise missing_object(str(table))
        return located

    def complete(self, name: Name) -> Table:
        """Return what a name stands for, whether or not its schema is there."""
        *qualifiers, table = name.parts
        if len(qualifiers) > _QUALIFIERS:
            raise syntax_error(f"unexpected '{name}'.")
        if not self.database and len(qualifiers) < _QUALIFIERS:
            raise _no_current("database", 90105)
        if not self.schema and not qualifiers:
            raise _no_current("schema", 90106)
        database, schema = [self.database, self.schema][: _QUALIFIERS - len(qualifiers)] + qualifiers
        return Table(str(database), str(schema), table)

    def query(self, sql: str, params: Any = None) -> Result:
        """Execute a query, a change of rows, or what fakesnow knows how to; what DuckDB cannot express is refused."""
        sql, params = self.prepared(sql), params or ()
        expression = parsed(sql)
        kind = str(expression.args.get("kind") or "TABLE").upper()
        if self._is_refused(expression, kind):
            raise unsupported("run this kind of statement", repr(sql[:200]))
        if isinstance(expression, exp.Query | exp.Values):
            return queries.select(self, sql, params)
        if isinstance(expression, queries.CHANGES):
            return self._dml(expression, sql, params)
        if isinstance(expression, exp.Alter):
            return queries.alter_columns(self, sql)
        if isinstance(expression, exp.Create) and kind == "VIEW":
            return queries.create_view(self, sql)
        if isinstance(expression, _DDL):
            return self._ddl(expression, sql, kind)
        return self._run(sql, statement_type_id(expression))

    def _dml(self, expression: Expr, sql: str, params: Sequence[Any]) -> Result:
        target = expression.this.find(exp.Table) if isinstance(expression.this, Expr) else None
        table = self.locate(queries.table_name(target)) if isinstance(target, exp.Table) else None
        # Translated first: a transaction sees no macro that is created after it has begun.
        execute = queries.change(self, sql, params)
        with self.atomically(ddl=False):
            known = self.register(table.database).registered(table) if table else None
            if table and known:
                self.require_usable("change", table, known)
                keep_rows(self, table)
            result = execute()
            if table:
                self.register(table.database).count_rows(table)
        return result

    def _ddl(self, expression: Expr, sql: str, kind: str) -> Result:
        named = expression.find(exp.Table)
        name = queries.table_name(named).parts[-1] if kind == "DATABASE" and named is not None else ""
        if name in self.engine.databases:
            if expression.args.get("exists"):
                return status(f"{name} already exists, statement succeeded.")
            raise existing_object(name)
        self.end(commit=True)
        result = self._run(sql, statement_type_id(expression))
        if name:
            self.engine.adopt(self.duck, name)
        else:
            for database in self.engine.databases:
                # DuckDB writes into one database in a transaction.
                with self.atomically(ddl=True):
                    self.engine.forget_missing(self.register(database))
        return result

    def _run(self, sql: str, statement_type: int) -> Result:
        """Execute one statement through fakesnow, its errors translated."""
        cursor = EngineCursor(self)
        with translated_errors(sql), quietly():
            cursor.execute(sql, server=True)
            # fakesnow would keep it for ever.
            self.results_cache.clear()
            return cursor.result(statement_type)

    def answer(self, sql: str, params: Sequence[Any] = (), *, statement_type: int = 0) -> Result:
        """Return what a query in DuckDB's own SQL gives."""
        self.duck.execute(sql, list(params))
        columns = _typed(self.duck.description)
        allow_arrow_output()
        return result_of(self.duck.to_arrow_table(), columns, statement_type)

    def prepared(self, sql: str) -> str:
        """Return a statement as it is to be read: the place of session variables, which there are none of here."""
        return sql

    def _is_refused(self, expression: Expr, kind: str) -> bool:
        """Return whether this is a statement that sqlglot only reads as text, or that fakesnow would accept without its effect."""
        if not isinstance(expression, self.accepted) or expression.find(exp.Command) is not None:
            return True
        if isinstance(expression, exp.Alter):
            actions = expression.args.get("actions") or ()
            return kind != "TABLE" or not all(isinstance(action, self.alterations) for action in actions)
        return isinstance(expression, _DDL) and kind not in self.kinds


class EngineCursor(FakeSnowflakeCursor):
    """A cursor of fakesnow, for SHOW, DESCRIBE and the objects around tables, that refuses what it would leave out."""

    def __init__(self, session: EngineSession) -> None:
        super().__init__(session, session.duck)
        self._described: Any = None

    def result(self, statement_type: int) -> Result:
        """Return what the last statement gave."""
        return result_of(self._arrow_table, _typed(self._described), statement_type)

    def _execute(self, transformed: Any, params: Any = None) -> None:
        try:
            transformed.sql(dialect="duckdb", unsupported_level=ErrorLevel.RAISE)
        except UnsupportedError as error:
            raise unsupported("express this on DuckDB", str(error)) from error
        allow_arrow_output()
        super()._execute(transformed, params)
        self._described = self._duck_conn.description


@contextmanager
def translated_errors(sql: str) -> Generator[None]:
    """Turn whatever fakesnow and DuckDB raise into what Snowflake answers."""
    try:
        yield
    except duckdb.Error as error:
        raise from_duckdb(error) from error
    except Error as error:
        if isinstance(error.__cause__, duckdb.Error):
            raise from_duckdb(error.__cause__) from error
        errno, sqlstate = max(error.errno or 9999, 1), error.sqlstate or "99999"
        raise SqlError(str(error.raw_msg), errno=errno, sqlstate=sqlstate) from error
    except (NotImplementedError, AssertionError, KeyError, ValueError) as error:
        raise unsupported("run this", f"{type(error).__name__}: {error} for {sql[:200]!r}") from error


@contextmanager
def transaction(duck: DuckDBPyConnection) -> Generator[None]:
    """Make what happens inside one transaction of DuckDB's."""
    duck.begin()
    try:
        yield
        duck.commit()
    except BaseException:
        roll_back(duck)
        raise


def roll_back(duck: DuckDBPyConnection) -> None:
    """Roll back, whether or not DuckDB has done so itself after a failed commit.

    A cancellation is repeated until its statement ends, and may interrupt the rolling back too, which would leave the
    session in a transaction that DuckDB has given up.
    """
    for _ in range(ROLLBACK_ATTEMPTS):
        with contextlib.suppress(duckdb.InterruptException):
            with contextlib.suppress(duckdb.TransactionException):
                duck.rollback()
            return


def spoilt_transaction() -> SqlError:
    """Return the error for what follows a failed statement of a transaction, as with TRANSACTION_ABORT_ON_ERROR on an account."""
    text = "The transaction requires that none of its statements fails, got one that did. Nothing of it is kept. End it by ROLLBACK."
    return SqlError(text, errno=9999, sqlstate="40000")


def _no_current(what: str, errno: int) -> SqlError:
    text = f"Cannot perform operation. This session does not have a current {what}. Call 'USE {what.upper()}', "
    return SqlError(f"{text}or use a qualified name.", errno=errno, sqlstate="22000")


def _typed(description: Any) -> list[tuple[str, types.Type]]:
    """Return names and types of what was executed last: no second query, so no second state of the tables."""
    return [(str(name), types.from_duck(str(kind))) for name, kind, *_ in description or ()]
