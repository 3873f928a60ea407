"""One session's SQL on DuckDB: fakesnow translates and executes, with what is added here around it.

fakesnow: https://github.com/tekumara/fakesnow. Whatever sqlglot cannot say in DuckDB's dialect it leaves out with a log
message; here that is an error, so a statement never silently does something else.
"""

import contextlib
import logging
import threading
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import sqlglot
from duckdb import DuckDBPyConnection
from fakesnow import info_schema, macros
from fakesnow.conn import FakeSnowflakeConnection
from fakesnow.cursor import FakeSnowflakeCursor
from fakesnow.instance import FakeSnow
from fakesnow.rowtype import ColumnInfo, describe_as_rowtype
from fakesnow.statement_type import DDL, statement_type_id
from snowflake.connector.errors import Error
from sqlglot import Expr, exp
from sqlglot.errors import ErrorLevel, ParseError, UnsupportedError

from run_elt_dagster.embedded import info_schema as views
from run_elt_dagster.embedded import rewrites
from run_elt_dagster.embedded.column_views import global_columns_view_sql
from run_elt_dagster.embedded.disk import opening, unmerged
from run_elt_dagster.embedded.errors import (
    SqlError,
    from_duckdb,
    missing_object,
    missing_schema,
    syntax_error,
    unsupported,
)
from run_elt_dagster.embedded.lexer import inlined_variables, renamed_functions
from run_elt_dagster.embedded.objects import KEPT_PREFIX, Register, Table, quoted, register_sql
from run_elt_dagster.embedded.positions import SyntaxProblem, SyntaxProblemError
from run_elt_dagster.embedded.quiet import quietly
from run_elt_dagster.embedded.reader import Name
from run_elt_dagster.embedded.statements import labels_of
from run_elt_dagster.embedded.time_travel import Past, resolved

logger = logging.getLogger(__name__)

DEFAULT_SCHEMA = "PUBLIC"
_DML = (exp.Insert, exp.Update, exp.Delete, exp.Merge)
# What fakesnow would keep in memory, or accept without any effect, is left out.
_KINDS = frozenset({"DATABASE", "SCHEMA", "SEQUENCE", "TABLE", "TAG", "VIEW"})
_FILES = (exp.Copy, exp.Put, exp.Get)
ROLLBACK_ATTEMPTS = 100

_DDL = (exp.Create, exp.Drop, exp.Alter)
# Types of DuckDB's that the connector reads as integers of 64 bits.
_SHORT_INTEGERS = frozenset({"TINYINT", "SMALLINT", "UTINYINT", "USMALLINT", "UINTEGER"})
_QUALIFIERS = 2


@dataclass(frozen=True)
class Result:
    """What a statement gives.

    Attributes:
        table: The rows.
        rowtype: The columns as the connector wants them described.
        statement_type: Snowflake's id of the kind of statement, which tells the connector what counts as rows.
    """

    table: pa.Table
    rowtype: list[ColumnInfo]
    statement_type: int = 0


class _NoResults(dict[str, tuple[Any, ...]]):
    """Forgets the results that fakesnow would keep for ever."""

    def __setitem__(self, key: str, value: tuple[Any, ...]) -> None:
        pass


class Engine(FakeSnow):
    """All databases of a directory, in one DuckDB instance.

    Args:
        directory: Where the database files are, one for each Snowflake database.
        databases: Databases to open; whatever is missing is created.
    """

    def __init__(self, directory: Path, databases: Sequence[str]) -> None:
        super().__init__(create_database_on_connect=False, create_schema_on_connect=False, db_path=directory)
        try:
            self._open(directory, databases)
        except BaseException:
            # DuckDB keeps a file for this process as long as the connection is open.
            self.duck_conn.close()
            raise

    def _open(self, directory: Path, databases: Sequence[str]) -> None:
        self.results_cache = _NoResults()
        # A name that no table has must not find a Python variable, and x / 0 must fail as on Snowflake:
        # https://docs.snowflake.com/en/sql-reference/operators-arithmetic#division
        self.duck_conn.execute("SET GLOBAL python_enable_replacements = false")
        self.duck_conn.execute("SET GLOBAL ieee_floating_point_ops = false")
        # Nothing is fetched from anywhere.
        self.duck_conn.execute("SET GLOBAL autoinstall_known_extensions = false")
        self.duck_conn.execute("SET GLOBAL autoload_known_extensions = false")
        self.duck_conn.execute(rewrites.TEXT_MACRO_SQL)
        self.duck_conn.execute(global_columns_view_sql())
        self.main_database = databases[0]
        self._directory = directory
        self._databases: list[str] = []
        for database in databases:
            self._attach(database)

    def _attach(self, database: str) -> None:
        path = self._directory / f"{database}.db"
        literal = str(path).replace("'", "''")
        with opening(path):
            self.duck_conn.execute(f"ATTACH '{literal}' AS {database}")
            self.duck_conn.execute(info_schema.per_db_creation_sql(database))
            self.duck_conn.execute(macros.creation_sql(database))
            self.adopt(self.duck_conn, database)

    @property
    def databases(self) -> Sequence[str]:
        """The names of all databases."""
        return tuple(self._databases)

    def adopt(self, duck: DuckDBPyConnection, database: str) -> None:
        """Give a database its register, the views on it, and the schema PUBLIC."""
        for sql in register_sql(database):
            duck.execute(sql)
        # A process that was killed may have dropped a schema and no more.
        Register(duck, database).forget_missing()
        # Every database has one: https://docs.snowflake.com/en/sql-reference/sql/create-database
        duck.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(database)}.{DEFAULT_SCHEMA}")
        if database not in self._databases:
            self._databases.append(database)
        for sql in (*views.views_sql(database), *views.global_views_sql(self._databases)):
            duck.execute(sql)

    def session(self, database: str | None, schema: str | None, *, autocommit: bool) -> "EngineSession":
        """Open a session's own connection to DuckDB."""
        return EngineSession(self, database, schema, autocommit=autocommit)

    def close(self) -> None:
        """Write everything into the database files and let go of them.

        What was committed is kept where that fails: it stays in the file with the end `.wal`, which is read at the next start.
        https://duckdb.org/docs/stable/sql/statements/checkpoint
        """
        for database in self._databases:
            try:
                self.duck_conn.execute(f"CHECKPOINT {quoted(database)}")
            except duckdb.Error as error:
                logger.warning("%s", unmerged(self._directory / f"{database}.db", error))
        for database in self._databases:
            with contextlib.suppress(duckdb.Error):
                self.duck_conn.execute(f"DETACH {quoted(database)}")
        self.duck_conn.close()


class EngineSession(FakeSnowflakeConnection):
    """A session of fakesnow with transactions that its parent does not keep track of."""

    def __init__(self, engine: Engine, database: str | None, schema: str | None, *, autocommit: bool) -> None:
        super().__init__(
            engine.duck_conn.cursor(),
            engine.results_cache,
            create_database=False,
            create_schema=False,
            db_path=engine.db_path,
            paramstyle="qmark",
            autocommit=autocommit,
        )
        self.engine = engine
        self.context: Mapping[str, str | None] = {}
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
        return self._in_transaction

    def begin(self) -> None:
        """Begin a transaction; a second BEGIN changes nothing: https://docs.snowflake.com/en/sql-reference/sql/begin."""
        if not self._in_transaction:
            self.duck.begin()
            self._in_transaction = True

    def end(self, *, commit: bool) -> None:
        """Commit or roll back the open transaction, if there is one.

        Raises:
            SqlError: It cannot be committed, because a statement in it has failed.
        """
        if not self._in_transaction:
            return
        self._in_transaction = False
        # DuckDB 2.0 reports success when a transaction is committed that it has given up, and keeps nothing of it.
        spoiled = self._is_spoiled()
        if commit and not spoiled:
            self.duck.commit()
            return
        _roll_back(self.duck)
        if commit:
            raise SqlError(
                "The transaction requires that no statement in it fails, got one that did. All of it was rolled back. "
                "Snowflake would keep the other statements. Repeat the statements before it.",
                errno=9999,
                sqlstate="40000",
            )

    def autocommit(self, mode: bool) -> None:  # noqa: FBT001 - the base class's signature
        """Commit what is open, then change the mode: https://docs.snowflake.com/en/sql-reference/transactions#autocommit."""
        self.end(commit=True)
        self._autocommit = mode

    @contextmanager
    def atomically(self, *, ddl: bool) -> Generator[None]:
        """Make what happens inside one transaction.

        DDL first commits the session's open transaction, DML joins it:
        https://docs.snowflake.com/en/sql-reference/transactions#ddl
        """
        if ddl:
            self.end(commit=True)
        elif not self._autocommit:
            self.begin()
        if self._in_transaction:
            yield
            return
        self.duck.begin()
        try:
            yield
            self.duck.commit()
        except BaseException:
            _roll_back(self.duck)
            raise

    def use(self, database: str, schema: str) -> None:
        """Make a schema the current one: https://docs.snowflake.com/en/sql-reference/sql/use-schema.

        Raises:
            SqlError: There is no such schema (002043).
        """
        if not self.register(database).has_schema(schema):
            raise SqlError(
                "SQL compilation error:\nObject does not exist, or operation cannot be performed.",
                errno=2043,
                sqlstate="02000",
            )
        self.duck.execute(f"USE {quoted(database)}.{quoted(schema)}")
        self.database, self._schema = database, schema
        self.database_set = self.schema_set = True

    def register(self, database: str) -> Register:
        """Return the register of a database."""
        return Register(self.duck, database)

    def past(self, database: str) -> Past:
        """Return what is kept of the rows of a database's tables."""
        return Past(self.duck, database)

    def readable(self, name: Name) -> Table:
        """Return where a table or view is.

        Raises:
            SqlError: There is none (002003).
        """
        table = self.locate(name)
        if self.register(table.database).existing_name(table.schema, table.name) != table.name:
            raise missing_object(str(table))
        return table

    def with_past_resolved(self, expression: Expr) -> Expr:
        """Return a statement that reads kept rows wherever it says AT or BEFORE."""

        def locate(node: exp.Table) -> tuple[Table, Past]:
            table = self.locate(_name_of(node))
            return table, self.past(table.database)

        return resolved(expression, locate)

    def locate(self, name: Name) -> Table:
        """Return where a name points to from this session, whether or not there is anything.

        Raises:
            SqlError: No database or schema is current, or the schema is not there.
        """
        (located,) = self.locate_all(name)
        return located

    def locate_all(self, *names: Name) -> list[Table]:
        """Return where several names point to, looking each schema up once; otherwise as `locate`."""
        located = [self._complete(name) for name in names]
        for database, schema in dict.fromkeys((table.database, table.schema) for table in located):
            if not self.register(database).has_schema(schema):
                raise missing_schema(database, schema)
        for table in located:
            if table.name.startswith(KEPT_PREFIX):
                raise missing_object(str(table))
        return located

    def _complete(self, name: Name) -> Table:
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
        """Execute what fakesnow knows how to.

        Raises:
            SqlError: It cannot be expressed on DuckDB, or fails there.
        """
        expression = self.parsed(sql)
        statement_type = statement_type_id(expression)
        try:
            if isinstance(expression, _DML):
                return self._dml(expression, sql, params, statement_type)
            if isinstance(expression, _DDL):
                return self._ddl(expression, sql, params, statement_type)
            return self._run(sql, params, statement_type)
        except SqlError as error:
            raise self._qualified(error, expression) from error

    def _dml(self, expression: Expr, sql: str, params: Any, statement_type: int) -> Result:
        target = expression.this.find(exp.Table) if isinstance(expression.this, Expr) else None
        table = self.locate(_name_of(target)) if isinstance(target, exp.Table) else None
        with self.atomically(ddl=False):
            known = self.register(table.database).registered(table) if table else None
            if table and known:
                known.require_writable(str(table))
            result = self._run(sql, params, statement_type)
            if table:
                self.register(table.database).count_rows(table)
                self.past(table.database).note_change(table)
        return result

    def _ddl(self, expression: Expr, sql: str, params: Any, statement_type: int) -> Result:
        self.end(commit=True)
        # fakesnow would commit once more, which DuckDB refuses.
        autocommit, self._autocommit = self._autocommit, True
        try:
            result = self._run(sql, params, statement_type)
        finally:
            self._autocommit = autocommit
        named = expression.find(exp.Table)
        if str(expression.args.get("kind")).upper() == "DATABASE" and named is not None:
            self.engine.adopt(self.duck, _name_of(named).parts[-1])
        else:
            for database in self.engine.databases:
                # DuckDB writes into one database in a transaction.
                with self.atomically(ddl=True):
                    self.register(database).forget_missing()
        return result

    def _run(self, sql: str, params: Any, statement_type: int) -> Result:
        """Execute one statement through fakesnow, its errors translated."""
        cursor = EngineCursor(self, labels_of(sql))
        with translated_errors(sql), quietly():
            cursor.execute(sql, binding_params=params, server=True)
            return cursor.result(statement_type)

    def described(self, sql: str) -> Result:
        """Return the columns that a query gives, without its rows."""
        (translated,) = self.duck_sql(sql)
        with translated_errors(sql):
            return self.answer(
                f"SELECT * FROM ({translated}) LIMIT 0", statement_type=statement_type_id(self.parsed(sql))
            )

    def answer(self, sql: str, params: Sequence[Any] = (), *, statement_type: int = 0) -> Result:
        """Return what a query in DuckDB's own SQL gives."""
        self.duck.execute(sql, list(params))
        columns = _columns_of(self.duck)
        _allow_arrow_output()
        return _result_of(self.duck.to_arrow_table(), columns, statement_type)

    def parsed(self, sql: str) -> Expr:
        """Return a statement as sqlglot reads it.

        Raises:
            SqlError: sqlglot cannot read it, or only as text.
        """
        try:
            with quietly():
                expression = sqlglot.parse_one(sql, read="snowflake")
        except ParseError as error:
            raise _syntax_problem(sql, error) from error
        if _is_refused(expression):
            raise unsupported("run this kind of statement", repr(sql[:200]))
        return expression

    def duck_sql(self, sql: str) -> list[str]:
        """Return a statement in DuckDB's SQL, as several where DuckDB needs several."""
        return EngineCursor(self, labels_of(sql)).translated(self.parsed(self.prepared(sql)))

    def prepared(self, sql: str) -> str:
        """Return a statement for sqlglot, the session's variables resolved; unlike in fakesnow, not inside strings."""
        inlined = inlined_variables(sql, self.variables._variables)  # pyright: ignore[reportPrivateUsage]
        return renamed_functions(inlined, rewrites.RENAMED_FUNCTIONS)

    def _is_spoiled(self) -> bool:
        """Return whether DuckDB has given the open transaction up."""
        try:
            self.duck.execute("SELECT 1")
        except duckdb.TransactionException:
            return True
        return False

    def _qualified(self, error: SqlError, expression: Expr) -> SqlError:
        """Return an error about a missing table with the full name, of which DuckDB only says the last part."""
        if error.errno != missing_object("").errno:
            return error
        for table in expression.find_all(exp.Table):
            if table.name and error.message.upper().split("'")[1].endswith(table.name.upper()):
                with contextlib.suppress(SqlError):
                    return missing_object(str(self._complete(_name_of(table))))
        return error


class EngineCursor(FakeSnowflakeCursor):
    """A cursor of fakesnow that refuses what it would silently leave out."""

    def __init__(self, session: EngineSession, labels: Sequence[str] | None) -> None:
        super().__init__(session, session.duck)
        self._session = session
        self._labels = labels
        self._columns: list[tuple[str, str]] = []
        self._view_comment: tuple[exp.Table, str | None] | None = None

    def result(self, statement_type: int) -> Result:
        """Return what the last statement gave."""
        return _result_of(self._arrow_table, self._columns, statement_type)

    def translated(self, expression: Expr) -> list[str]:
        """Return DuckDB's SQL for a parsed statement."""
        with translated_errors(expression.sql(dialect="snowflake")), quietly():
            self.check_db_and_schema(expression)
            parts: list[Any] = self._transform_explode(expression)
            return [self._sql_of(self._transform(part, None)) for part in parts]

    def _transform(self, expression: Any, params: Any) -> Any:
        present = self._session.with_past_resolved(expression)
        before = rewrites.before_fakesnow(
            present, context=self._session.context, labels=self._labels, locate=self._session.readable
        )
        after = rewrites.after_fakesnow(super()._transform(before, params))
        # fakesnow keeps comments in a database that is gone with the process.
        self._view_comment = after.args.pop("table_comment", None)
        return after

    def _execute(self, transformed: Any, params: Any = None) -> None:
        self._sql_of(transformed)
        _allow_arrow_output()
        super()._execute(transformed, params)
        self._columns = _columns_of(self._duck_conn)
        if self._view_comment is not None and self._view_comment[1] is not None:
            view, comment = self._view_comment
            text = exp.Literal.string(comment).sql(dialect="duckdb")
            self._duck_conn.execute(f"COMMENT ON VIEW {view.sql(dialect='duckdb')} IS {text}")

    def _inline_variables(self, sql: str) -> str:
        return self._session.prepared(sql)

    def _sql_of(self, transformed: Expr) -> str:
        try:
            return transformed.sql(dialect="duckdb", unsupported_level=ErrorLevel.RAISE)
        except UnsupportedError as error:
            raise unsupported("express this on DuckDB", str(error)) from error


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
        raise SqlError(
            str(error.raw_msg), errno=max(error.errno or 9999, 1), sqlstate=error.sqlstate or "99999"
        ) from error
    except (NotImplementedError, AssertionError, KeyError, ValueError) as error:
        raise unsupported("run this", f"{type(error).__name__}: {error} for {sql[:200]!r}") from error


def status(message: str) -> Result:
    """Return the one row that Snowflake gives for a statement without rows.

    Made without DuckDB: a cancellation that arrives after the effect must not make the statement fail.
    """
    return _result_of(pa.table({"status": [message]}), [("status", "VARCHAR")], DDL)


def _roll_back(duck: DuckDBPyConnection) -> None:
    """Roll back, whether or not DuckDB has done so itself after a failed commit.

    A cancellation is repeated until its statement ends, and may interrupt the rolling back too, which would leave the
    session in a transaction that DuckDB has given up.
    """
    for _ in range(ROLLBACK_ATTEMPTS):
        with contextlib.suppress(duckdb.InterruptException):
            with contextlib.suppress(duckdb.TransactionException):
                duck.rollback()
            return


def _syntax_problem(sql: str, error: ParseError) -> SqlError:
    found = error.errors[0] if error.errors else {}
    start = len(str(found.get("start_context") or ""))
    context = str(found.get("start_context") or "") + str(found.get("highlight") or "")
    if not context or context not in sql:
        return syntax_error(str(error).replace("\x1b[4m", "").replace("\x1b[0m", ""))
    return SyntaxProblemError(SyntaxProblem(sql, sql.find(context) + start, str(found["highlight"])))


def _is_refused(expression: Expr) -> bool:
    """Tell a statement that sqlglot only reads as text, or that fakesnow would accept without its effect."""
    kind = str(expression.args.get("kind") or "TABLE").upper()
    is_unknown = isinstance(expression, _DDL) and kind not in _KINDS
    return is_unknown or isinstance(expression, _FILES) or expression.find(exp.Command) is not None


def _no_current(what: str, errno: int) -> SqlError:
    return SqlError(
        f"Cannot perform operation. This session does not have a current {what}. Call 'USE {what.upper()}', "
        "or use a qualified name.",
        errno=errno,
        sqlstate="22000",
    )


def _name_of(table: exp.Table) -> Name:
    """Return a parsed table's name with Snowflake's folding of case."""
    parts = [part for part in table.parts if isinstance(part, exp.Identifier)]
    return Name(tuple(part.name if part.quoted else part.name.upper() for part in parts))


def _columns_of(duck: DuckDBPyConnection) -> list[tuple[str, str]]:
    """Return names and DuckDB types of what was executed last: no second query, so no second state of the tables."""
    return [(str(column[0]), str(column[1])) for column in duck.description or []]


def _result_of(table: Any, columns: Sequence[tuple[str, str]], statement_type: int) -> Result:
    described: list[tuple[str, str, None, None, None, None]] = []
    for index, (name, kind) in enumerate(columns):
        if kind in _SHORT_INTEGERS:
            table = table.set_column(index, table.schema.field(index).name, table.column(index).cast(pa.int64()))
        described.append((name, "BIGINT" if kind in _SHORT_INTEGERS else kind, None, None, None, None))
    return Result(table, describe_as_rowtype(described), statement_type)


_ARROW_REMARK = "Arrow output on a DB-API result"
_allowing_arrow_output = threading.Lock()


def _allow_arrow_output() -> None:
    """Silence one remark of DuckDB's about a copy that cannot be avoided.

    Set anew where it is gone, because whoever captures warnings (pytest does) takes filters away again. Where it is there it
    stays: Python 3.11 takes a filter out before it puts the same one in, and another thread's remark may come in between.
    """
    with _allowing_arrow_output:
        if not any(action == "ignore" and _is_arrow_remark(message) for action, message, *_ in warnings.filters):
            warnings.filterwarnings("ignore", message=_ARROW_REMARK, category=UserWarning)


def _is_arrow_remark(message: object) -> bool:
    return getattr(message, "pattern", None) == _ARROW_REMARK
