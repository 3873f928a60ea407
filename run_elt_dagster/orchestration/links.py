"""Where the links of a table's page lead: to its file, and to a query in Snowsight."""

import re
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import dagster as dg

from run_elt_dagster.model.names import Key, Relation, stored_name
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.snowflake.env_vars import text_of
from run_elt_dagster.snowflake.resource import Snowflake

# `<organization>-<account>`: https://docs.snowflake.com/en/user-guide/admin-account-identifier
_ACCOUNT = re.compile(r"([A-Za-z][A-Za-z0-9]*)-([A-Za-z][A-Za-z0-9_]*)")
_CODE_REFERENCES = "dagster/code_references"


@contextmanager
def without_beta_warnings() -> Generator[None]:
    """Take Dagster's betas without a warning, for all tables at once: for each by itself this costs more than the link.

    Dagster 1.13.27 still calls its code references a beta. The page needs these classes; it takes no plain link.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        yield


@dataclass(frozen=True)
class Links:
    """What the settings say of places.

    Attributes:
        database: Stored name of the database that the tables are in; empty where it is not known.
        tables_dir: The folder of the table files; None for tables without files.
        source_url: Where a file is in Git: an address with `{path}`, its path below that folder, and maybe `{line}`.
        queries_url: Where Snowsight shows a query: what stands before its id; empty where the account is not known.
    """

    database: str = ""
    tables_dir: Path | None = None
    source_url: str | None = None
    queries_url: str = ""

    @classmethod
    def to(cls, snowflake: Snowflake, database: str, tables_dir: Path, source_url: str | None) -> "Links":
        """Return the links of a folder of tables.

        Args:
            snowflake: What its tables are built with.
            database: The session's database, empty if it is not known.
            tables_dir: The folder.
            source_url: Where its files are in Git.
        """
        try:
            database = stored_name(database) if database else ""
        except ValueError:
            # The first session reports it.
            database = ""
        return cls(database, tables_dir, source_url, _queries_url(snowflake))

    def name_of(self, key: Key) -> str:
        """Return the full name of a table that SQL reads, as `DATABASE.SCHEMA.NAME`; empty where the database is not known."""
        names = tuple(map(stored_name, key))
        database = names[:-2] or (self.database,)
        return str(Relation(database[0], *names[-2:])) if database[0] else ""

    def file_of(self, table: AnalyticsTable) -> dict[str, dg.CodeReferencesMetadataValue]:
        """Return metadata with the place of the file: in Git if its address is known, otherwise on this machine.

        Dagster 1.13.27 warns of it: call it in `without_beta_warnings`.
        """
        if table.path is None:
            return {}
        reference = self._reference(table, table.path)
        return {_CODE_REFERENCES: dg.CodeReferencesMetadataValue(code_references=[reference])}

    def _reference(self, table: AnalyticsTable, path: Path) -> dg.UrlCodeReference | dg.LocalFileCodeReference:
        # The SQL begins behind the end of the settings, which has a line of its own as a rule.
        line = table.sql_line + table.sql[: len(table.sql) - len(table.sql.lstrip())].count("\n")
        if self.source_url is None or self.tables_dir is None or not path.is_relative_to(self.tables_dir):
            return dg.LocalFileCodeReference(file_path=str(path), line_number=line, label=path.name)
        url = self.source_url.replace("{line}", str(line))
        return dg.UrlCodeReference(
            url=url.replace("{path}", quote(path.relative_to(self.tables_dir).as_posix())), label=path.name
        )

    def query(self, query_id: str) -> dg.MetadataValue | str:
        """Return a query id, as a link if the account is known."""
        return (
            dg.MetadataValue.url(f"{self.queries_url}{query_id}/detail") if query_id and self.queries_url else query_id
        )


def _queries_url(snowflake: Snowflake) -> str:
    """Return where Snowsight shows queries: https://docs.snowflake.com/en/user-guide/ui-snowsight-activity."""
    if any((snowflake.host, snowflake.port, snowflake.protocol)) or "host" in snowflake.additional_arguments:
        return ""
    match = _ACCOUNT.fullmatch(text_of(snowflake.account))
    return f"https://app.snowflake.com/{match[1]}/{match[2]}/#/compute/history/queries/" if match else ""
