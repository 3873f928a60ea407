"""Where the values of columns come from: the words of column lineage, without any SQL.

An origin is a set of columns of other tables, or `Unknown`: nothing is said where it cannot be told. The empty set is an answer, too:
`count(*)` comes from no column.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from run_elt_dagster.model.names import Key, key_part

# What Snowflake calls an item of a SELECT without an alias is its text: such a name is seldom a plain one.
_PLAIN = re.compile(r"[A-Z_][A-Z0-9_$]*")


class ColumnRef(NamedTuple):
    """A column of a table. There are many: a tuple is made, hashed and compared several times as fast as a dataclass.

    Attributes:
        table: The table, as the catalogue has it.
        column: The column's name as Snowflake stores it.
    """

    table: Key
    column: str

    def __str__(self) -> str:
        """Return `schema.table.column`, each part as SQL takes it."""
        return ".".join((*self.table, key_part(self.column)))


@dataclass(frozen=True)
class Unknown:
    """An origin that cannot be told.

    Attributes:
        reason: Why, as a sentence without its full stop.
    """

    reason: str


Origin = frozenset[ColumnRef] | Unknown
"""The columns that a value comes from, or why they cannot be told."""

NOTHING: Origin = frozenset()


def together(origins: Iterable[Origin]) -> Origin:
    """Return the origin of a value that comes from several: known only where each of them is."""
    found: set[ColumnRef] = set()
    for origin in origins:
        if isinstance(origin, Unknown):
            return origin
        found |= origin
    return frozenset(found)


@dataclass(frozen=True)
class Output:
    """A column that a query gives.

    Attributes:
        name: As Snowflake stores it; None for an expression without an alias.
        origin: Where its values come from.
    """

    name: str | None
    origin: Origin


@dataclass(frozen=True)
class Rest:
    """Columns whose names are not known, as of `select *` from a table that no file declares.

    Attributes:
        table: The table that they all belong to, under the same names; None where even that is not known.
        reason: Why they are not known, as a sentence without its full stop.
        without: Names that are not among them.
    """

    table: Key | None
    reason: str
    without: frozenset[str] = frozenset()

    def origin(self, name: str) -> Origin:
        """Return where a column comes from, if it is one of these."""
        return Unknown(self.reason) if self.table is None else frozenset({ColumnRef(self.table, name)})


@dataclass(frozen=True)
class Columns:
    """What a query or a table gives.

    Attributes:
        items: Its columns in order; a `Rest` stands for any number of them.
        is_ordered: Whether the order is known.
    """

    items: tuple[Output | Rest, ...] = ()
    is_ordered: bool = True

    @property
    def outputs(self) -> tuple[Output, ...] | None:
        """All columns, None where some are not known."""
        outputs = tuple(item for item in self.items if isinstance(item, Output))
        return outputs if len(outputs) == len(self.items) else None

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of all columns, None where some are not known."""
        outputs = self.outputs
        names = tuple(output.name for output in outputs or () if output.name is not None)
        return names if outputs is not None and len(names) == len(outputs) else None

    @cached_property
    def rests(self) -> tuple[Rest, ...]:
        """What stands for columns that are not known."""
        return tuple(item for item in self.items if isinstance(item, Rest))

    def certain(self, name: str) -> list[Origin]:
        """Return the origins of the columns that have this name."""
        return self._origins.get(name, [])

    @cached_property
    def _origins(self) -> dict[str | None, list[Origin]]:
        # Looked up, not searched: a table may have thousands of columns, and a query as many names.
        origins: dict[str | None, list[Origin]] = {}
        for item in self.items:
            if isinstance(item, Output):
                origins.setdefault(item.name, []).append(item.origin)
        return origins

    def possible(self, name: str) -> list[Rest]:
        """Return what a column of this name may be part of."""
        rests = [rest for rest in self.rests if name not in rest.without]
        if None in self._origins and not _PLAIN.fullmatch(name):
            rests.append(Rest(None, f"{name} may be an expression without an alias"))
        return rests

    def origin(self, name: str) -> Origin:
        """Return where the values of a column come from, if the query has it and can be run."""
        certain, possible = self.certain(name), self.possible(name)
        if len(certain) == 1:
            return certain[0]
        if not certain and len(possible) == 1:
            return possible[0].origin(name)
        shown = key_part(name)
        return Unknown(f"{shown} may be several columns" if certain or possible else f"there is no column {shown}")

    def every(self) -> Origin:
        """Return where all of its values together come from."""
        return together(item.origin if isinstance(item, Output) else Unknown(item.reason) for item in self.items)


def opaque(reason: str) -> Columns:
    """Return columns of which nothing is known."""
    return Columns((Rest(None, reason),), is_ordered=False)


def columns_of_table(table: Key, names: Sequence[str] | None) -> Columns:
    """Return what a table gives to those that read it; None for names that are not known."""
    if names is None:
        return Columns((Rest(table, f"the columns of {'.'.join(table)} are not known"),))
    return Columns(tuple(Output(name, frozenset({ColumnRef(table, name)})) for name in names))


def written(columns: Columns) -> list[Any]:
    """Return columns as JSON takes them."""
    return [columns.is_ordered, *map(_written_item, columns.items)]


def _written_item(item: Output | Rest) -> Mapping[str, Any]:
    if isinstance(item, Rest):
        return {"of": item.table, "why": item.reason, "without": sorted(item.without)}
    if isinstance(item.origin, Unknown):
        return {"name": item.name, "why": item.origin.reason}
    return {"name": item.name, "from": [[ref.column, *ref.table] for ref in sorted(item.origin)]}


def read(content: Sequence[Any]) -> Columns:
    """Return what `written` has made JSON of.

    Raises:
        KeyError, TypeError, ValueError: It is something else.
    """
    is_ordered, *items = content
    return Columns(tuple(_read_items(items)), is_ordered=bool(is_ordered))


def _read_items(items: Iterable[Mapping[str, Any]]) -> Iterator[Output | Rest]:
    for item in items:
        if "without" in item:
            table = None if item["of"] is None else tuple(item["of"])
            yield Rest(table, item["why"], frozenset(item["without"]))
        elif "why" in item:
            yield Output(item["name"], Unknown(item["why"]))
        else:
            yield Output(item["name"], frozenset(ColumnRef(tuple(table), column) for column, *table in item["from"]))
