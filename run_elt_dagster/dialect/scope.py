"""What names mean at one place of a query.

https://docs.snowflake.com/en/sql-reference/identifiers-syntax
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlglot import Expr, exp

from run_elt_dagster.dialect.errors import SqlError, unsupported
from run_elt_dagster.dialect.names import quoted
from run_elt_dagster.dialect.types import Kind, Type
from run_elt_dagster.dialect.values import Value, macro

# Begins the name of a column that no statement can name: `*` leaves it out.
HIDDEN = ":"


@dataclass(frozen=True)
class Column:
    """A column of a relation.

    Attributes:
        name: What statements call it.
        type: Its type.
        inner: What DuckDB calls it: two columns of a query may have one name, and DuckDB's have not.
        stored: Whether it is a table's, so arrays and objects are stored in types of their own.
    """

    name: str
    type: Type
    inner: str
    stored: bool = False

    def value(self, source: str) -> Value:
        """Return the column of a source that has this name in DuckDB's SQL."""
        sql = f"{quoted(source)}.{quoted(self.inner)}"
        if self.stored and self.type.kind in {Kind.ARRAY, Kind.OBJECT}:
            sql = macro("stored_array" if self.type.kind is Kind.ARRAY else "stored_object", sql)
        return Value(sql, self.type)


@dataclass(frozen=True)
class Relation:
    """What stands in FROM: SQL, and the columns that it gives."""

    sql: str
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Source:
    """A relation under a name.

    Attributes:
        names: What may stand before its columns: the alias, or the parts of the table's name.
        inner: Its name in DuckDB's SQL.
        columns: What it gives.
    """

    names: tuple[str, ...]
    inner: str
    columns: tuple[Column, ...]

    def is_meant(self, qualifiers: Sequence[str]) -> bool:
        """Return whether a column with these parts before it is one of this source."""
        return bool(self.names) and list(self.names[-len(qualifiers) :]) == list(qualifiers)


@dataclass
class Scope:
    """The sources of one SELECT, and where to look further.

    Attributes:
        sources: What FROM and the joins name.
        parent: The SELECT around this one.
        relations: The common table expressions that are known here.
        aliases: What the SELECT itself calls its items; a column of this name comes first.
        merged: The columns that USING and NATURAL have made one of two.
    """

    sources: list[Source] = field(default_factory=list[Source])
    parent: "Scope | None" = None
    relations: dict[str, Relation] = field(default_factory=dict[str, Relation])
    aliases: dict[str, Expr] = field(default_factory=dict[str, Expr])
    merged: dict[str, Value] = field(default_factory=dict[str, Value])
    _open: set[str] = field(default_factory=set[str])

    def relation(self, name: str) -> Relation | None:
        """Return the common table expression of a name."""
        if name in self.relations:
            return self.relations[name]
        return self.parent.relation(name) if self.parent else None

    def column(self, node: exp.Column, compile_alias: Callable[[Expr], Value]) -> Value:
        """Return what a column name means.

        Raises:
            SqlError: Nothing (000904), or several things (002028).
        """
        name, qualifiers = name_of(node.this), [name_of(part) for part in node.parts[:-1]]
        scope: Scope | None = self
        while scope is not None:
            found = scope.own_column(name, qualifiers)
            if found is None and not qualifiers:
                found = scope.alias_value(name, compile_alias)
            if found is not None:
                return found
            scope = scope.parent
        raise invalid_identifier(".".join([*qualifiers, name]))

    def has_column(self, name: str) -> bool:
        """Return whether a source of this very SELECT has a column of this name."""
        return name in self.merged or any(column.name == name for source in self.sources for column in source.columns)

    def own_column(self, name: str, qualifiers: Sequence[str]) -> Value | None:
        """Return the column of this very SELECT's sources that has a name, None if none has."""
        if not qualifiers and name in self.merged:
            return self.merged[name]
        found = [
            column.value(source.inner)
            for source in self.sources
            if not qualifiers or source.is_meant(qualifiers)
            for index, column in enumerate(source.columns, start=1)
            if name in {column.name, f"${index}"}
        ]
        if len(found) > 1:
            raise ambiguous_column(name)
        return found[0] if found else None

    def alias_value(self, name: str, compile_alias: Callable[[Expr], Value]) -> Value | None:
        """Return the item that a SELECT calls by a name, None if none has it or it is about itself."""
        if name not in self.aliases or name in self._open:
            return None
        self._open.add(name)
        try:
            return compile_alias(self.aliases[name])
        finally:
            self._open.discard(name)

    def all_columns(self, qualifiers: Sequence[str] = ()) -> Iterator[tuple[str, Value]]:
        """Yield what `*` stands for, or `t.*`: names and values.

        Raises:
            SqlError: No source has this name.
        """
        sources = [source for source in self.sources if not qualifiers or source.is_meant(qualifiers)]
        if not sources:
            raise invalid_identifier(".".join(qualifiers))
        if not qualifiers and self.merged:
            leading = [column.name for column in sources[0].columns][: len(self.merged)]
            if leading != list(self.merged):
                raise unsupported("order the columns of `*` after USING or NATURAL", ", ".join(self.merged))
        given: set[str] = set()
        for source in sources:
            for column in source.columns:
                if not qualifiers and column.name in self.merged:
                    if column.name not in given:
                        given.add(column.name)
                        yield column.name, self.merged[column.name]
                elif not column.name.startswith(HIDDEN):
                    yield column.name, column.value(source.inner)


def name_of(identifier: Expr) -> str:
    """Return the name that an identifier stands for: in upper case unless quoted."""
    if isinstance(identifier, exp.Parameter):
        return f"${identifier.this.name}"
    quoted_name = isinstance(identifier, exp.Identifier) and identifier.args.get("quoted")
    return identifier.name if quoted_name else identifier.name.upper()


def invalid_identifier(name: str) -> SqlError:
    """Return the error for a name that means nothing."""
    return SqlError(f"SQL compilation error:\ninvalid identifier '{name}'", errno=904, sqlstate="42000")


def ambiguous_column(name: str) -> SqlError:
    """Return the error for a name that means several things."""
    return SqlError(f"SQL compilation error:\nambiguous column name '{name}'", errno=2028, sqlstate="42601")


def distinct_columns(items: Sequence[tuple[str, Type]], *, stored: bool = False) -> tuple[Column, ...]:
    """Return columns whose names in DuckDB are all different: it folds even the case of quoted names."""
    taken: set[str] = set()
    columns: list[Column] = []
    for name, kind in items:
        inner, number = name, 1
        while inner.lower() in taken:
            number += 1
            inner = f"{name}:{number}"
        taken.add(inner.lower())
        columns.append(Column(name, kind, inner, stored))
    return tuple(columns)


Tables = Callable[[exp.Table], Relation]
Context = Mapping[str, str | None]
