"""What a run would build: all tables, named ones, or those that differ from a Git revision with what reads them. Pure."""

import graphlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from run_elt_dagster.environments.changes import Changes
from run_elt_dagster.model.groups import left_out
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Key, key_of, stored_name
from run_elt_dagster.model.table import AnalyticsTable


@dataclass(frozen=True)
class Planned:
    """A table that is built.

    Attributes:
        table: The table.
        reason: Why, in words.
    """

    table: AnalyticsTable
    reason: str


@dataclass(frozen=True)
class Plan:
    """What a run would build.

    Attributes:
        built: The tables in an order in which they can be built.
        skipped: The other tables, in the order of their files.
        broken: Tables that would be built, but for problems of their files.
        deleted: Tables that have no file any more: nothing drops them.
        since: The revision that the files are compared with, in words; empty where they are not.
    """

    built: tuple[Planned, ...]
    skipped: tuple[Key, ...] = ()
    broken: tuple[Key, ...] = ()
    deleted: tuple[Key, ...] = ()
    since: str = ""

    @property
    def selection(self) -> str:
        """The tables as Dagster's commands select them; empty if there are none.

        https://docs.dagster.io/guides/build/assets/asset-selection-syntax/reference
        """
        return " or ".join(f'key:"{"/".join(each.table.asset_path)}"' for each in self.built)


def plan_of(tables: Catalogue, named: Collection[Key], changes: Changes | None) -> Plan:
    """Return what a run would build.

    Args:
        tables: The tables of the folder.
        named: Only these, and the others of their groups; none for all.
        changes: How the files differ from a revision: only what differs and what reads it; None for all.
    """
    reasons = _all(tables, named) if changes is None else _changed(tables, changes)
    wanted = {key: reason for key, reason in reasons.items() if not named or key in named}
    for name, missing in left_out(tables, wanted).items():
        # A run of a part of a group is refused.
        wanted |= dict.fromkeys(missing, f"is in publish_group {name}")
    order = graphlib.TopologicalSorter({key: tables.parents(key) for key in tables}).static_order()
    return Plan(
        tuple(Planned(tables[key], wanted[key]) for key in order if key in wanted),
        tuple(key for key in tables if key not in wanted),
        tuple(key for key in tables.broken if key in wanted),
        changes.deleted if changes else (),
        changes.revision if changes else "",
    )


def _all(tables: Catalogue, named: Collection[Key]) -> dict[Key, str]:
    return dict.fromkeys((*tables, *tables.broken), "named" if named else "every table")


def _changed(tables: Catalogue, changes: Changes) -> dict[Key, str]:
    reasons: dict[Key, str] = dict.fromkeys(changes.rows, "the file differs")
    reasons |= dict.fromkeys(changes.new, "the revision has no file of it")
    first = [*changes.rows, *changes.deleted]
    for key, parent in _readers(tables, first):
        gone = " (it has no file any more)" if parent in changes.deleted else ""
        reasons.setdefault(key, f"reads {'.'.join(parent)}{gone}")
    for key in changes.settings:
        reasons.setdefault(key, "settings in the file differ, and change no row")
    return reasons


def _readers(tables: Catalogue, keys: Sequence[Key]) -> Iterator[tuple[Key, Key]]:
    """Yield each table that reads one of some tables, directly or not, with the one that it reads; the nearest first."""
    upstream = {**tables.upstream, **{key: each.upstream for key, each in tables.broken.items()}}
    seen, waiting = set(keys), list(keys)
    while waiting:
        parent = waiting.pop(0)
        for key, reads in upstream.items():
            if parent in reads and key not in seen:
                seen.add(key)
                waiting.append(key)
                yield key, parent


def read_by_full_name(tables: Catalogue, production: str) -> Iterator[tuple[Key, Key]]:
    """Yield a table and what it reads of the production database by its full name: an environment reads that there too.

    Args:
        tables: The tables, loaded without the name of a database.
        production: Stored name of the database.
    """
    (database,) = key_of([production])
    for key in tables:
        for read in tables.upstream[key]:
            if len(read) == 3 and read[0] == database:  # noqa: PLR2004 - with a database
                yield key, read


def schemas_of(tables: Catalogue, production: str) -> tuple[str, ...]:
    """Return the stored names of the schemas of all tables and of what they read in the production database, sorted."""
    (database,) = key_of([production])
    read = {key for keys in tables.upstream.values() for key in keys if key not in tables}
    local = [key[-2] for key in read if len(key) == 2 or key[0] == database]  # noqa: PLR2004 - without a database
    return tuple(sorted({table.stored_schema for table in tables.values()} | {stored_name(name) for name in local}))
