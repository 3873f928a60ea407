"""What `*` and `t.*` stand for, with ILIKE, EXCLUDE, REPLACE and RENAME.

https://docs.snowflake.com/en/sql-reference/sql/select
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlglot import Expr, exp

from run_elt_dagster.dialect.expressions import refused
from run_elt_dagster.dialect.scope import invalid_identifier, name_of
from run_elt_dagster.dialect.values import Value

if TYPE_CHECKING:
    from run_elt_dagster.dialect.expressions import Expressions

_KNOWN = frozenset({"this", "table", "db", "catalog", "except_", "replace", "rename", "ilike"})


def is_star(node: Expr) -> bool:
    """Return whether a node is `*` or `t.*`."""
    return isinstance(node, exp.Star) or (isinstance(node, exp.Column) and isinstance(node.this, exp.Star))


def starred(this: "Expressions", written: Expr) -> Sequence[tuple[str, Value]]:
    """Return names and values of the columns.

    Raises:
        SqlError: There is no such source or column (000904).
    """
    qualifiers = [name_of(part) for part in written.parts[:-1]] if isinstance(written, exp.Column) else []
    args: dict[str, Any] = {**written.args, **(written.this.args if isinstance(written, exp.Column) else {})}
    if {key for key, value in args.items() if value} - _KNOWN:
        raise refused(written)
    excluded = {_bare(column) for column in args.get("except_") or []}
    replaced = {name_of(alias.args["alias"]): alias.this for alias in args.get("replace") or []}
    renamed = {_bare(alias.this): name_of(alias.args["alias"]) for alias in args.get("rename") or []}
    columns = list(this.scope.all_columns(qualifiers))
    for name in [*excluded, *replaced, *renamed]:
        if name not in dict(columns):
            raise invalid_identifier(name)
    liked = _pattern(args["ilike"]) if args.get("ilike") else None
    return [
        (renamed.get(name, name), this.value(replaced[name]) if name in replaced else value)
        for name, value in columns
        if name not in excluded and (liked is None or liked.fullmatch(name))
    ]


def _bare(column: Expr) -> str:
    return name_of(column.this if isinstance(column, exp.Column) else column)


def _pattern(written: Expr) -> re.Pattern[str]:
    parts = {"%": ".*", "_": "."}
    return re.compile("".join(parts.get(sign, re.escape(sign)) for sign in written.name), re.IGNORECASE | re.DOTALL)
