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

from run_elt_dagster.embedded import rewrites
from run_elt_dagster.embedded.disk import opening, unmerged
from run_elt_dagster.embedded.errors import (
    SqlError,
    from_duckdb,
    missing_object,
    missing_schema,
    syntax_error,
    unsupported,
)
from run_elt_dagster.embedded.features import Feature
from run_elt_dagster.embedded.lexer import SyntaxProblemError, renamed_functions
from run_elt_dagster.embedded.objects import KEPT_PREFIX, Register, Table, literal, quoted
from run_elt_dagster.embedded.quiet import quietly
from run_elt_dagster.embedded.reader import Name
from run_elt_dagster.embedded.sql_files import database_sql, show_sql, sql_file
from run_elt_dagster.embedded.statements import DEFAULT_SCHEMA, labels_of

logger = logging.getLogger(__name__)

_DML = (exp.Insert, exp.Update, exp.Delete, exp.Merge)
# What fakesnow would keep in memory, or accept without any effect, is left out.
KINDS = frozenset({"DATABASE", "SCHEMA", "SEQUENCE", "TABLE", "VIEW"})
ALTERATIONS: tuple[type[Expr], ...] = (exp.ColumnDef, exp.Drop, exp.RenameColumn, exp.AlterColumn)
# Without a transaction, which cannot be begun here, to end one changes nothing on an account either.
ENDINGS = (exp.Commit, exp.Rollback)
READING = (exp.Query, exp.Values, exp.Show, exp.Describe)
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
        features: What its sessions can do besides.
    """

    def __init__(self, directory: Path, databases: Sequence[str], features: Sequence[Feature] = ()) -> None:
        super().__init__(create_database_on_connect=False, create_schema_on_connect=False, db_path=directory)
        self.features = tuple(features)
        self.heads = [head for feature in features for head in feature.heads]
        self.clauses = [clause for feature in features for clause in feature.clauses]
        self.handlers = {kind: handler for feature in features for kind, handler in feature.handlers.items()}
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
        self.duck_conn.execute(sql_file("columns"))
        self.main_database = databases[0]
        self._directory = directory
        self._databases: list[str] = []
        for database in databases:
            self._attach(database)

    def _attach(self, database: str) -> None:
        path = self._directory / f"{database}.db"
        with opening(path):
            self.duck_conn.execute(f"ATTACH {literal(str(path))} AS {database}")
            self.duck_conn.execute(info_schema.per_db_creation_sql(database))
            self.duck_conn.execute(macros.creation_sql(database))
            self.adopt(self.duck_conn, database)

    @property
    def databases(self) -> Sequence[str]:
        """The names of all databases."""
        return tuple(self._databases)

    def adopt(self, duck: DuckDBPyConnection, database: str) -> None:
        """Give a database its register, the views on it, and the schema PUBLIC."""
        duck.execute(database_sql("register", database))
        for feature in self.features:
            for sql in feature.register_sql(database):
                duck.execute(sql)
        # A process that was killed may have dropped a schema and no more.
        self.forget_missing(Register(duck, database))
        # Every database has one: https://docs.snowflake.com/en/sql-reference/sql/create-database
        duck.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(database)}.{DEFAULT_SCHEMA}")
        if database not in self._databases:
            self._databases.append(database)
        duck.execute(database_sql("views", database) + show_sql(self._databases))
        for feature in self.features:
            for sql in feature.views(database):
                duck.execute(sql)

    def forget(self, register: Register, object_id: str) -> None:
        """Forget an object and whatever features know about it."""
        register.remove(object_id)
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
    """A session of fakesnow, with a transaction around each statement.

    Attributes:
        kinds: What may be created, dropped and altered.
        accepted: What else may be executed, as sqlglot reads it.
        alterations: What may be altered.
    """

    kinds = KINDS
    accepted: tuple[type[Expr], ...] = (*READING, *_DML, *_DDL, exp.Comment, *ENDINGS)
    alterations: tuple[type[Expr], ...] = ALTERATIONS

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
        if database:
            # What does not exist is only missed when it is needed, as on Snowflake.
            with contextlib.suppress(SqlError):
                self.use(database, schema or DEFAULT_SCHEMA)

    @property
    def duck(self) -> DuckDBPyConnection:
        """The session's connection to DuckDB."""
        return self._duck_conn

    @contextmanager
    def atomically(self, *, ddl: bool) -> Generator[None]:  # noqa: ARG002 - for sessions that have longer transactions
        """Make what happens inside one transaction.

        Args:
            ddl: Whether it is DDL, as opposed to DML: https://docs.snowflake.com/en/sql-reference/transactions#ddl
        """
        self.duck.begin()
        try:
            yield
            self.duck.commit()
        except BaseException:
            roll_back(self.duck)
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

    def note_change(self, table: Table) -> None:
        """Note that a statement has changed a table's rows; belongs into its transaction."""
        self.register(table.database).count_rows(table)
        for feature in self.engine.features:
            feature.on_change(self, table)

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
        table = self.locate(name_of(target)) if isinstance(target, exp.Table) else None
        with self.atomically(ddl=False):
            known = self.register(table.database).registered(table) if table else None
            if table and known:
                for feature in self.engine.features:
                    feature.on_use("change", known, str(table))
            result = self._run(sql, params, statement_type)
            if table:
                self.note_change(table)
        return result

    def _ddl(self, expression: Expr, sql: str, params: Any, statement_type: int) -> Result:
        result = self._run(sql, params, statement_type)
        named = expression.find(exp.Table)
        if str(expression.args.get("kind")).upper() == "DATABASE" and named is not None:
            self.engine.adopt(self.duck, name_of(named).parts[-1])
        else:
            for database in self.engine.databases:
                # DuckDB writes into one database in a transaction.
                with self.atomically(ddl=True):
                    self.engine.forget_missing(self.register(database))
        return result

    def _run(self, sql: str, params: Any, statement_type: int) -> Result:
        """Execute one statement through fakesnow, its errors translated."""
        cursor = EngineCursor(self, labels_of(sql))
        with translated_errors(sql), quietly():
            cursor.execute(sql, binding_params=params, server=True)
            return cursor.result(statement_type)

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
        if self._is_refused(expression):
            raise unsupported("run this kind of statement", repr(sql[:200]))
        return expression

    def duck_sql(self, sql: str) -> list[str]:
        """Return a statement in DuckDB's SQL, as several where DuckDB needs several."""
        return EngineCursor(self, labels_of(sql)).translated(self.parsed(self.prepared(sql)))

    def prepared(self, sql: str) -> str:
        """Return a statement for sqlglot."""
        return renamed_functions(sql, rewrites.RENAMED_FUNCTIONS)

    def _is_refused(self, expression: Expr) -> bool:
        """Return whether this is a statement that sqlglot only reads as text, or that fakesnow would accept without its effect."""
        if not isinstance(expression, self.accepted) or expression.find(exp.Command) is not None:
            return True
        if isinstance(expression, exp.Alter):
            return any(not isinstance(action, self.alterations) for action in expression.args.get("actions") or ())
        kind = str(expression.args.get("kind") or "TABLE").upper()
        return isinstance(expression, _DDL) and kind not in self.kinds

    def _qualified(self, error: SqlError, expression: Expr) -> SqlError:
        """Return an error about a missing table with the full name, of which DuckDB only says the last part."""
        if error.errno != missing_object("").errno:
            return error
        for table in expression.find_all(exp.Table):
            if table.name and error.message.upper().split("'")[1].endswith(table.name.upper()):
                with contextlib.suppress(SqlError):
                    return missing_object(str(self._complete(name_of(table))))
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
        for feature in self._session.engine.features:
            expression = feature.rewrite(self._session, expression)
        before = rewrites.before_fakesnow(expression, context=self._session.context, labels=self._labels)
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


def _syntax_problem(sql: str, error: ParseError) -> SqlError:
    found = error.errors[0] if error.errors else {}
    start = len(str(found.get("start_context") or ""))
    context = str(found.get("start_context") or "") + str(found.get("highlight") or "")
    if not context or context not in sql:
        return syntax_error(str(error).replace("\x1b[4m", "").replace("\x1b[0m", ""))
    return SyntaxProblemError(sql, sql.find(context) + start, str(found["highlight"]))


def _no_current(what: str, errno: int) -> SqlError:
    return SqlError(
        f"Cannot perform operation. This session does not have a current {what}. Call 'USE {what.upper()}', "
        "or use a qualified name.",
        errno=errno,
        sqlstate="22000",
    )


def name_of(table: exp.Table) -> Name:
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
