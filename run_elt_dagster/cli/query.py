"""`run-elt query`."""

from collections.abc import Sequence

import click

from run_elt_dagster.cli.opening import signed_in
from run_elt_dagster.cli.parameters import as_json, of_project
from run_elt_dagster.cli.printing import cells, headings, print_json, print_table, say_on_stderr
from run_elt_dagster.cli.progress import progress
from run_elt_dagster.model.reading_statement import reading_statement
from run_elt_dagster.model.single_select import SqlRuleError
from run_elt_dagster.project import Project
from run_elt_dagster.snowflake.session import StatementError


@click.command("query")
@click.argument("sql")
@of_project
@click.option(
    "--limit", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="Print so many rows at most."
)
@as_json
def command(project: Project, sql: str, *, limit: int, as_json: bool) -> int:
    """Print the rows of one SELECT, WITH, SHOW or DESCRIBE. Anything that could change something is refused.

    \b
      run-elt query "select channel, count(*) from raw_data.user_session_channel group by 1"
    """
    try:
        statement = reading_statement(sql)
    except SqlRuleError as error:
        raise ValueError(f"run-elt query {error}") from None
    with signed_in(project) as session, progress("Running the query"):
        try:
            answer = session.execute(statement, tag={"stage": "query", "job": "run-elt query"}, most_rows=limit + 1)
        except StatementError as error:
            if not error.answered:
                raise
            raise ValueError(f"Snowflake cannot run the query, got {error}.") from error
    rows = answer.rows[:limit]
    if as_json:
        _require_names(answer.columns)
        print_json([dict(zip(answer.columns, row, strict=True)) for row in rows])
    else:
        print_table(headings(answer.columns), cells(rows))
    if len(answer.rows) > limit:
        say_on_stderr(f"There are more rows than the {limit:,} that are printed: see --limit.")
    return 0


def _require_names(columns: Sequence[str]) -> None:
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise ValueError(
            f"run-elt query --json requires columns with names that differ, got {', '.join(twice)} several times. Nothing was "
            "printed. Name them with AS."
        )
