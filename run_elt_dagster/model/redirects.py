"""Lets a SQL text read another table in the place of one that it names: the name is replaced, and every other character stays.

Tables of one group read each other before anybody else does, so their SQL reads candidates. A name that has no alias keeps its own
name as one, so `orders.amount` still means that table.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import sqlglot
from sqlglot import exp

from run_elt_dagster.model.names import Key, Relation, key_of, quote_identifier

# What may stand behind the name of a table, and reads rows of its past: a candidate has none.
_PAST = ("when", "changes", "version")
# What may stand between a name and its alias.
_BEHIND = ("sample", "pivots", "match")
_QUALIFIED = 2


@dataclass(frozen=True)
class Place:
    """A name of a table in a SQL text.

    Attributes:
        start: Where its first character is, from 0.
        end: Where the first character after it is.
        key: The table, as the SQL names it: with its database where that is written.
        text: What stands behind the new name; empty for nothing.
        is_table: Whether rows are read there. Otherwise the name stands before a column.
    """

    start: int
    end: int
    key: Key
    text: str = ""
    is_table: bool = True


class Obstacles:
    """What keeps other tables from being read in the place of those that a query names."""

    def __init__(self, query: exp.Expr) -> None:
        self._query = query
        self._sources: dict[int, Counter[str]] = {}

    def of(self, node: exp.Expr) -> str:
        """Return why no other table can be read in the place of one behind FROM or JOIN; empty if one can."""
        if any(node.args.get(part) for part in _PAST):
            return "AT, BEFORE and CHANGES read its past"
        if not _is_named_by_itself(node):
            return ""
        if _has_something_behind(node) and _stored(node.this) in self._qualifiers:
            return "its columns are named by it, and it has no alias"
        if self._sources_beside(node)[_stored(node.this)] > 1:
            return "another source of the same SELECT has its name, and it has no alias"
        return ""

    @cached_property
    def _qualifiers(self) -> set[str]:
        """The names that stand before columns."""
        before = (column.args.get("table") for column in self._query.find_all(exp.Column))
        return {_stored(each) for each in before if isinstance(each, exp.Identifier)}

    def _sources_beside(self, node: exp.Expr) -> Counter[str]:
        """Return what the sources of the same SELECT are called. Counted once: a text of 1 MB may have twenty thousand tables."""
        if not self._sources:
            for source in self._query.find_all(exp.Table, exp.Subquery):
                self._sources.setdefault(id(source.parent_select), Counter())[_name_of(source)] += 1
        return self._sources[id(node.parent_select)]


def redirected(sql: str, relations: Mapping[Key, Relation]) -> str:
    """Return a SQL text that reads other tables in the place of some.

    Args:
        sql: The text. `reads_of` finds in it what is to be replaced, and no obstacle.
        relations: What is read, by the keys that the SQL may name each table by.

    Raises:
        ValueError: A table would still be read by its own name.
    """
    query = sqlglot.parse_one(sql, read="snowflake")
    places = sorted(_places(query, relations), key=lambda place: -place.start)
    for place in places:
        name = relations[place.key].sql if place.is_table else ""
        sql = f"{sql[: place.start]}{name}{place.text}{sql[place.end :]}"
    left = {key for node in sqlglot.parse_one(sql, read="snowflake").find_all(exp.Table) if (key := _key_of(node))}
    if missed := left & relations.keys():
        raise ValueError(
            f"SQL requires names that can be replaced by those of candidates, got {', '.join('.'.join(key) for key in missed)}. "
            "Nothing was built. Write schema.table behind FROM or JOIN."
        )
    return sql


def _places(query: exp.Expr, relations: Mapping[Key, Relation]) -> Iterator[Place]:
    for node in query.find_all(exp.Table):
        key = _key_of(node)
        if key in relations:
            start, end = _span(node, ("catalog", "db", "this"))
            is_bare = _is_named_by_itself(node) and not _has_something_behind(node)
            alias = f" AS {quote_identifier(_stored(node.this))}" if is_bare else ""
            yield Place(start, end, key, alias)
    for column in query.find_all(exp.Column):
        key = _key_of(column, ("catalog", "db", "table"))
        if key in relations:
            start, end = _span(column, ("catalog", "db", "table"))
            yield Place(start, end, key, quote_identifier(_stored(column.args["table"])), is_table=False)


def _key_of(node: exp.Expr, parts: Sequence[str] = ("catalog", "db", "this")) -> Key:
    """Return the key of a qualified name; empty for any other."""
    given = [node.args.get(part) for part in parts]
    names = [_stored(part) for part in given if isinstance(part, exp.Identifier)]
    return key_of(names) if len(names) >= _QUALIFIED and len(names) == sum(map(bool, given)) else ()


def _span(node: exp.Expr, parts: Sequence[str]) -> tuple[int, int]:
    places = [part.meta for name in parts if isinstance(part := node.args.get(name), exp.Identifier)]
    return min(place["start"] for place in places), max(place["end"] for place in places) + 1


def _is_named_by_itself(node: exp.Expr) -> bool:
    return node.args.get("alias") is None


def _has_something_behind(node: exp.Expr) -> bool:
    select = node.parent_select
    is_matched = select is not None and bool(select.args.get("match"))
    return is_matched or any(node.args.get(part) for part in _BEHIND)


def _name_of(source: exp.Expr) -> str:
    """Return what columns name a source by; empty for nothing."""
    alias = source.args.get("alias")
    name = alias.this if alias is not None else source.this
    return _stored(name) if isinstance(name, exp.Identifier) else ""


def _stored(identifier: exp.Expr) -> str:
    return identifier.name if identifier.args.get("quoted") else identifier.name.upper()
