"""What names of columns mean in one SELECT, as far as the columns of its tables are known.

It relies on one thing: Snowflake takes the query. So a name that one table has belongs to that table. If another one had it
too, Snowflake would refuse the name.
https://docs.snowflake.com/en/sql-reference/identifiers-syntax
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlglot import exp

from run_elt_dagster.model.names import key_of
from run_elt_dagster.model.origins import Columns, Origin, Rest, Unknown


@dataclass(frozen=True)
class Source:
    """A table, a query or a function in FROM.

    Attributes:
        names: What may stand before its columns: the alias, or the parts of the table's name.
        columns: What it gives.
    """

    names: tuple[str, ...]
    columns: Columns

    def is_meant(self, qualifiers: Sequence[str]) -> bool:
        """Return whether a column with these parts before it is one of this source."""
        return bool(self.names) and self.names[-len(qualifiers) :] == tuple(qualifiers)


@dataclass
class Scope:
    """The sources of one SELECT, and where to look further.

    Attributes:
        parent: The SELECT around it.
        sources: What FROM and the joins name.
        merged: The columns that USING and NATURAL have made one of two.
        doubt: Why a name without its table cannot be told, empty if it can.
        aliases: What the SELECT calls one of its items; filled when FROM has been read.
        read: Returns the origin of an item; set when FROM has been read.
        known: The origins of those that have been read.
        later: Names that may mean an item, and nothing is certain: all of them while FROM is read, then those of several items.
        open: The aliases that are being looked at: none of them is defined by itself.
    """

    parent: "Scope | None" = None
    sources: list[Source] = field(default_factory=list[Source])
    merged: dict[str, Origin] = field(default_factory=dict[str, Origin])
    doubt: str = ""
    aliases: dict[str, exp.Expr] = field(default_factory=dict[str, exp.Expr])
    open: set[str] = field(default_factory=set[str])
    read: Callable[[exp.Expr], Origin] = field(default=lambda _item: Unknown("FROM is still being read"))
    known: dict[str, Origin] = field(default_factory=dict[str, Origin])
    later: frozenset[str] = frozenset()

    def named(self, qualifiers: Sequence[str]) -> list[Source]:
        """Return the sources that these parts before a column can mean, of the innermost SELECT that has one."""
        found = [source for source in self.sources if source.is_meant(qualifiers)]
        return found if found or self.parent is None else self.parent.named(qualifiers)

    def qualified(self, name: str, qualifiers: Sequence[str]) -> Origin:
        """Return the origin of `t.name`."""
        sources = self.named(qualifiers)
        if len(sources) == 1:
            return sources[0].columns.origin(name)
        shown = ".".join(key_of(qualifiers))
        return Unknown(f"{shown} may be several tables" if sources else f"no table in FROM is called {shown}")

    def unqualified(self, name: str) -> Origin:
        """Return the origin of a name that stands alone: a column of FROM, else an alias, else a column further outside."""
        if self.doubt:
            return Unknown(self.doubt)
        certain, possible = self._certain(name), self._possible(name)
        if name in self.merged or len(certain) == 1:
            return self.merged[name] if name in self.merged else certain[0]
        if certain or len(possible) > 1:
            return Unknown(f"{_shown(name)} may be a column of several tables, and stands without its table")
        return self._possibly(name, possible[0]) if possible else self._elsewhere(name)

    def _possibly(self, name: str, rest: Rest) -> Origin:
        """Return the origin of a name that one table may have, if it can mean nothing else."""
        if name in self.later or self._is_alias(name) or (self.parent is not None and self.parent.may_have(name)):
            return Unknown(f"{_shown(name)} may be a column, or what another part of the query calls so: {rest.reason}")
        return rest.origin(name)

    def _elsewhere(self, name: str) -> Origin:
        """Return the origin of a name that no table in FROM has."""
        if name in self.later:
            return Unknown(f"{_shown(name)} may be one of several things that the SELECT calls so")
        if name in self.aliases and name not in self.open:
            item = self.aliases[name]
            if _mentions(item, name) or (self.parent is not None and self.parent.may_have(name)):
                return Unknown(f"{_shown(name)} may be an alias, or a column of the query around")
            return self.about(name, lambda: self.read(item))
        if self.parent is not None:
            return self.parent.unqualified(name)
        return Unknown(f"no table in FROM has a column {_shown(name)}")

    def about(self, alias: str | None, look: Callable[[], Origin]) -> Origin:
        """Look at an item of this SELECT, once. Meanwhile its own alias is no name in it."""
        if alias is None or alias in self.open:
            return look()
        if alias in self.known:
            return self.known[alias]
        is_first = not self.open
        self.open.add(alias)
        try:
            origin = look()
        finally:
            self.open.discard(alias)
        if is_first:
            self.known[alias] = origin
        return origin

    def may_have(self, name: str) -> bool:
        """Return whether a name can mean something here or further outside."""
        here = name in {*self.merged, *self.aliases, *self.later} or self._certain(name) or self._possible(name)
        return bool(here or self.doubt) or (self.parent is not None and self.parent.may_have(name))

    def _certain(self, name: str) -> list[Origin]:
        return [origin for source in self.sources for origin in source.columns.certain(name)]

    def _possible(self, name: str) -> list[Rest]:
        return [rest for source in self.sources for rest in source.columns.possible(name)]

    def _is_alias(self, name: str) -> bool:
        """Return whether a name can be an alias here; in `upper(x) as x`, x is a column, and so it is in all other items."""
        return name in self.aliases and name not in self.open and not _mentions(self.aliases[name], name)


def stored(identifier: exp.Expr) -> str:
    """Return the name of an identifier as Snowflake stores it."""
    is_quoted = isinstance(identifier, exp.Identifier) and identifier.args.get("quoted")
    return identifier.name if is_quoted else identifier.name.upper()


def _shown(name: str) -> str:
    return key_of([name])[0]


def qualifiers_of(column: exp.Column) -> list[str]:
    """Return what stands before a column: its table, with schema and database where they are written."""
    return [stored(part) for part in column.parts[:-1]]


def _mentions(item: exp.Expr, name: str) -> bool:
    """Return whether an item names a column of this name without its table, outside of queries in it."""
    return any(
        isinstance(node, exp.Column) and not node.args.get("table") and stored(node.this) == name
        for node in item.walk(prune=lambda node: isinstance(node, exp.Query))
    )
