"""Tables that readers see change together: which rules a folder has to keep for them, and what their SQL reads in a run."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from run_elt_dagster.model.checks import TABLE_PLACEHOLDER, Relationship, SqlCheck
from run_elt_dagster.model.names import Key, Relation, key_of, quote_identifier
from run_elt_dagster.model.problems import TableProblem
from run_elt_dagster.model.table import AnalyticsTable

# What stands for the table under audit while the query of a check is read.
UNDER_AUDIT: Key = ("run_elt_audit", "table_under_audit")


def groups_of(tables: Iterable[AnalyticsTable]) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return the tables of each group, in the order of the files."""
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for table in tables:
        if table.publish_group is not None:
            found[table.publish_group] = (*found.get(table.publish_group, ()), table.key)
    return found


def left_out(tables: Mapping[Key, AnalyticsTable], chosen: Collection[Key]) -> dict[str, tuple[Key, ...]]:
    """Return for each group of which a run has some tables those that it does not have; nothing where it has all."""
    wanted = set(chosen)
    missing = {
        name: tuple(key for key in keys if key not in wanted) for name, keys in groups_of(tables.values()).items()
    }
    return {
        name: keys for name, keys in missing.items() if keys and {tables[key].publish_group for key in wanted} >= {name}
    }


def problems_of_groups(
    tables: Mapping[Key, AnalyticsTable], reads: Mapping[Key, Mapping[Key, int]]
) -> Iterator[TableProblem]:
    """Yield what keeps groups from being published together.

    Args:
        tables: The declared tables.
        reads: For each of them, the keys that it reads, each with a line of its file.
    """
    groups = groups_of(tables.values())
    for name, keys in groups.items():
        yield from _mixed_ways(name, [tables[key] for key in keys])
        yield from _mixed_partitions(name, [tables[key] for key in keys])
        yield from _reads_of_parts(name, keys, tables, reads)
    yield from _tables_between(groups, tables, reads)


def _mixed_ways(name: str, tables: Sequence[AnalyticsTable]) -> Iterator[TableProblem]:
    """Yield the tables that are written in a transaction, where others are not: one exchange cannot have both."""
    others = [table.name for table in tables if not _is_written(table)]
    for table in tables if others else ():
        if _is_written(table):
            message = (
                f"publish_group {name} requires publish: overwrite, partitions or an increment of all its tables or of none, got "
                f"{_way_of(table)} here and publish: {_ways(tables)} in {', '.join(others)}. They could not change together. "
                "Choose publish: overwrite for the tables that are built whole."
            )
            yield TableProblem(table.path, table.line_of(_setting_of(table)), message)


def _is_written(table: AnalyticsTable) -> bool:
    """Return whether its rows are written into the table that readers see, in a transaction."""
    return table.is_in_parts or table.publish == "overwrite"


def _ways(tables: Sequence[AnalyticsTable]) -> str:
    return " or ".join(sorted({table.publish for table in tables if not _is_written(table)}))


def _setting_of(table: AnalyticsTable) -> str:
    return "partitions" if table.partitions is not None else "increment" if table.increment is not None else "publish"


def _way_of(table: AnalyticsTable) -> str:
    return _setting_of(table) if table.is_in_parts else f"publish: {table.publish}"


def _mixed_partitions(name: str, tables: Sequence[AnalyticsTable]) -> Iterator[TableProblem]:
    """Yield the tables that have other partitions than the first one that has some: a run has one range of partitions."""
    model = next((table for table in tables if table.partitions is not None), None)
    for table in tables if model is not None else ():
        if model is not None and _periods(table) != (wanted := _periods(model)):
            message = (
                f"publish_group {name} requires the same partitions of all its tables or of none, got {_periods(table) or 'none'} here and "
                f"{wanted} in {model.name}. A backfill would build them in different runs. Give all of them the same by, start and end, "
                "or take the table out of the group."
            )
            setting = "partitions" if table.partitions is not None else "publish_group"
            yield TableProblem(table.path, table.line_of(setting), message)


def _periods(table: AnalyticsTable) -> str:
    """Return which partitions a table has, in words; empty if it has none."""
    found = table.partitions
    if found is None:
        return ""
    start, end = (each.strftime(found.key_format) if each is not None else "" for each in (found.start, found.end))
    return f"by {found.by} from {start}{f' to {end}' if end else ''}"


def _reads_of_parts(
    name: str, keys: Sequence[Key], tables: Mapping[Key, AnalyticsTable], reads: Mapping[Key, Mapping[Key, int]]
) -> Iterator[TableProblem]:
    """Yield the reads of a table in parts by another one of its group: its candidate has some of its rows alone."""
    for key in keys:
        for read, line in reads[key].items():
            if read in keys and tables[read].is_in_parts:
                message = (
                    f"publish_group {name} requires that none of its tables reads one in parts, got {'.'.join(read)} with "
                    f"{_setting_of(tables[read])}. Its candidate has the new rows alone, and the others would be missing. Read what it reads, "
                    "or take one of the two out of the group."
                )
                yield TableProblem(tables[key].path, line, message)


def _tables_between(
    groups: Mapping[str, Sequence[Key]],
    tables: Mapping[Key, AnalyticsTable],
    reads: Mapping[Key, Mapping[Key, int]],
) -> Iterator[TableProblem]:
    """Yield the reads that need one part of a group published before another part is built."""
    for name, keys in groups.items():
        after = _readers_of(keys, groups, reads)
        for key in keys:
            for read in sorted(reads[key].keys() & (after - set(keys))):
                message = (
                    f"publish_group {name} requires that no other table stands between its tables, got {'.'.join(read)}, which reads them. "
                    f"It could be built only after they are published. Add publish_group: {name} to it, or take this read out."
                )
                yield TableProblem(tables[key].path, reads[key][read], message)


def _readers_of(
    keys: Sequence[Key], groups: Mapping[str, Sequence[Key]], reads: Mapping[Key, Mapping[Key, int]]
) -> set[Key]:
    """Return the tables that are built after some tables are published. A group of which one table is, is built after them as a whole."""
    together = {key: set(of) for of in groups.values() for key in of}
    found: set[Key] = set()
    new = set(keys)
    while new:
        published = found | set(keys)
        readers = {key for key, read in reads.items() if read.keys() & published} - published
        new = {each for key in readers for each in together.get(key, {key})} - published
        found |= new
    return found


def reading_candidates(table: AnalyticsTable, candidates: Mapping[Key, Relation]) -> AnalyticsTable:
    """Return a table whose SQL and checks read candidates in the place of other tables of its group.

    Args:
        table: The table.
        candidates: By the stored names of the tables in whose place they are read, as keys, without the database.

    Raises:
        ValueError: A table would still be read by its own name.
    """
    if not candidates:
        return table
    named = {**candidates, **{(key_of([found.database])[0], *key): found for key, found in candidates.items()}}
    checks = table.checks.model_copy(
        update={
            "sql": {name: _redirected_check(check, named) for name, check in table.checks.sql.items()},
            "relationship": {
                column: _redirected_relationship(rule, named) for column, rule in table.checks.relationship.items()
            },
        }
    )
    return table.model_copy(update={"sql": _redirected(table.sql, named), "checks": checks})


def _redirected(sql: str, candidates: Mapping[Key, Relation]) -> str:
    # sqlglot takes half a second to import, and is not needed without groups.
    from run_elt_dagster.model.redirects import redirected  # noqa: PLC0415

    return redirected(sql, candidates)


def _redirected_check(check: SqlCheck, candidates: Mapping[Key, Relation]) -> SqlCheck:
    under_audit = ".".join(UNDER_AUDIT)
    query = _redirected(check.query.replace(TABLE_PLACEHOLDER, under_audit), candidates)
    return check.model_copy(update={"query": query.replace(under_audit, TABLE_PLACEHOLDER)})


def _redirected_relationship(rule: Relationship, candidates: Mapping[Key, Relation]) -> Relationship:
    found = candidates.get(key_of(rule.table))
    return rule if found is None else rule.model_copy(update={"to": f"{found.sql}.{quote_identifier(rule.column)}"})


def fixed_reads(name: str, group: Collection[Key], fixed: Mapping[Key, tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Yield the line and the message of each read in whose place the candidate of a table of the group cannot be read.

    Args:
        name: Of the group.
        group: Its other tables, as SQL names them.
        fixed: What cannot be replaced, with the line of the file and why.
    """
    for key, (line, why) in fixed.items():
        if key in group:
            message = (
                f"publish_group {name} requires reads of {'.'.join(key)} that can become reads of its candidate, got one that cannot: {why}. "
                f"Write {'.'.join(key)} AS an_alias behind FROM or JOIN."
            )
            yield line, message
