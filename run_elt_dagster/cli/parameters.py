"""Parameters that several commands take."""

from pathlib import Path

import click
from click.shell_completion import CompletionItem


class TableName(click.ParamType[str]):
    """`schema.table`, completed from the names of the table files."""

    name = "schema.table"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - Click's signature
        """Return the declared tables whose names begin so. No file is read."""
        from run_elt_dagster.settings import Settings  # noqa: PLC0415 - half a second, and only here

        try:
            files = sorted(Path(Settings.from_environment().tables_dir).glob("*/*.sql"))
        except ValueError:  # A wrong setting is said by the command, not by the completion.
            return []
        names = (f"{file.parent.name}.{file.stem}".lower() for file in files)
        return [CompletionItem(name) for name in names if name.startswith(incomplete.lower().replace("/", "."))]


TABLE = TableName()

partition = click.option(
    "--partition",
    metavar="KEY",
    help="The partition to build, as in 2024-01-31, or a range, FIRST...LAST. A partitioned table requires it.",
)
whole = click.option(
    "--whole", "is_whole", is_flag=True, help="Of a table with increments, build all rows and not only what is new."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for a program.")
changed = click.option(
    "--changed",
    is_flag=False,
    flag_value="",
    metavar="[REVISION]",
    help="Only tables whose file differs from a Git revision, and what reads them: from where the branch left the default branch, if none is named.",
)
