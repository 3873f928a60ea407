"""What plugs into the embedded Snowflake: statements and facts about tables that not every user needs.

    EmbeddedServer(directory, features=[GRANTS, TAGS])

The server of this package has no feature. Its own handlers call every hook inside the transaction that changes the table.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlglot import Expr, exp

from run_elt_dagster.embedded.objects import Register, Table, TableObject
from run_elt_dagster.embedded.reader import Clause, Head, Statement

if TYPE_CHECKING:
    from run_elt_dagster.embedded.engine import EngineSession
    from run_elt_dagster.embedded.results import Result
    from run_elt_dagster.embedded.statements import Creation


@dataclass(frozen=True)
class Created:
    """A table that a statement has just created.

    Attributes:
        object_id: The new object.
        creation: The clauses of the statement.
        replaced: The object that stood under the name before, None if there was none.
        origin: The object that CLONE or LIKE names, None for any other table.
        is_clone: Whether the statement is a CLONE.
    """

    object_id: str
    creation: "Creation"
    replaced: TableObject | None = None
    origin: TableObject | None = None
    is_clone: bool = False


def _nothing(*_: Any) -> None:
    pass


def _no_statements(_: str) -> Sequence[str]:
    return ()


def _as_it_is(_: Any, expression: Expr) -> Expr:
    return expression


@dataclass(frozen=True)
class Feature:
    """One feature. Each attribute has a default that does nothing.

    Attributes:
        heads: Keywords that begin a statement, and the parser of the rest. They come before the server's own.
        clauses: Likewise for the clauses of CREATE TABLE; what a parser returns lands in `Creation.clauses`.
        handlers: The function that executes a statement, by the statement's class.
        register_sql: Returns the statements that create the feature's tables in a database; safe to repeat.
        views: Likewise for views. They come after the server's own and may replace those.
        table_functions: Functions in FROM by name; each returns a query in DuckDB's SQL.
        rewrite: Returns a parsed statement as the server shall execute it.
        on_use: Refuses to `change` the rows of a table, or to `move`, `clone`, `replace` or `drop` it, by an error.
        on_create: Records what the feature knows about a new table.
        on_swap: Notes that an object has another name now.
        on_change: Notes that a statement has changed a table's rows.
        on_overwrite: Takes the table with the old rows away, and returns whether it did.
        on_remove: Forgets an object.
        on_forget: Forgets what was in schemas that are gone.
    """

    heads: Sequence[Head] = ()
    clauses: Sequence[Clause] = ()
    handlers: Mapping[type[Statement], Callable[["EngineSession", Any], "Result"]] = field(
        default_factory=dict[type[Statement], Callable[["EngineSession", Any], "Result"]]
    )
    register_sql: Callable[[str], Sequence[str]] = _no_statements
    views: Callable[[str], Sequence[str]] = _no_statements
    table_functions: Mapping[str, Callable[["EngineSession", exp.Anonymous], str]] = field(
        default_factory=dict[str, Callable[["EngineSession", exp.Anonymous], str]]
    )
    rewrite: Callable[["EngineSession", Expr], Expr] = _as_it_is
    on_use: Callable[[str, TableObject, str], None] = _nothing
    on_create: Callable[["EngineSession", Table, Created], None] = _nothing
    on_swap: Callable[["EngineSession", Table, str], None] = _nothing
    on_change: Callable[["EngineSession", Table], None] = _nothing
    on_overwrite: Callable[["EngineSession", Table, str], bool | None] = _nothing
    on_remove: Callable[[Register, str], None] = _nothing
    on_forget: Callable[[Register], None] = _nothing
