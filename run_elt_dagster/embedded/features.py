"""What plugs into the embedded Snowflake: statements and facts about tables that not every user needs.

    EmbeddedServer(directory, features=[GRANTS, TAGS])

The server of a run has none, that of `run-elt seed` has one. Its own handlers call every hook inside the transaction that changes the table.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlglot import Expr, exp

from run_elt_dagster.embedded.objects import Register, Table, TableObject
from run_elt_dagster.embedded.reader import Clause, Head, Statement

if TYPE_CHECKING:
    from run_elt_dagster.embedded.engine import EngineSession
    from run_elt_dagster.embedded.results import Result
    from run_elt_dagster.embedded.statements import Creation

Handler: TypeAlias = Callable[["EngineSession", Any], "Result"]
# A function in FROM; it returns a query in DuckDB's SQL.
TableFunction: TypeAlias = Callable[["EngineSession", exp.Anonymous], str]


@dataclass(frozen=True)
class Created:
    """A table that a statement has just created, the object that it replaced, and the one that CLONE or LIKE names."""

    object_id: str
    creation: "Creation"
    replaced: TableObject | None = None
    origin: TableObject | None = None
    is_clone: bool = False


def _nothing(*_: Any) -> None:
    pass


@dataclass(frozen=True)
class Feature:
    """One feature. Each attribute has a default that does nothing.

    Attributes:
        heads: Keywords that begin a statement, and the parser of the rest. They come before the server's own.
        clauses: Likewise for the clauses of CREATE TABLE; what a parser returns lands in `Creation.clauses`.
        handlers: The function that executes a statement, by the statement's class.
        register_sql: Returns the statements that create the feature's tables and views in a database; safe to repeat. They
            come after the server's own and may replace its views.
        table_functions: Functions in FROM by name.
        rewrite: Returns a parsed statement as the server shall execute it.
        on_use: Refuses to `change` the rows of a table, or to `move`, `clone`, `replace` or `drop` it, by an error.
        on_create: Records what the feature knows about a new table.
        on_swap: Notes that an object has another name now.
        on_remove: Forgets an object.
        on_forget: Forgets what was in schemas that are gone.
    """

    heads: Sequence[Head] = ()
    clauses: Sequence[Clause] = ()
    handlers: Mapping[type[Statement], Handler] = field(default_factory=dict[type[Statement], Handler])
    register_sql: Callable[[str], Sequence[str]] = lambda _: ()
    table_functions: Mapping[str, TableFunction] = field(default_factory=dict[str, TableFunction])
    rewrite: Callable[["EngineSession", Expr], Expr] = lambda _, expression: expression
    on_use: Callable[[str, TableObject, str], None] = _nothing
    on_create: Callable[["EngineSession", Table, Created], None] = _nothing
    on_swap: Callable[["EngineSession", Table, str], None] = _nothing
    on_remove: Callable[[Register, str], None] = _nothing
    on_forget: Callable[[Register], None] = _nothing
