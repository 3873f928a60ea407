"""The tables that every client builds, and the files in which each client wants them. Pure but for `write`.

A workload has the same tables, the same SELECTs and one row-count check a table for everybody; only the way in which a
table names the ones that it reads differs.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["trivial", "realistic"]
KINDS: tuple[Kind, ...] = ("trivial", "realistic")
SOURCES = ("raw_data.orders", "raw_data.customers")
SOURCES_SQL = (
    """CREATE OR REPLACE TABLE {database}.RAW_DATA.CUSTOMERS AS
    SELECT column1 AS customer_id, column2 AS country FROM VALUES (1, 'ES'), (2, 'FR'), (3, 'DE')""",
    """CREATE OR REPLACE TABLE {database}.RAW_DATA.ORDERS AS
    SELECT column1 AS order_id, column2 AS customer_id, column3 AS amount, TO_TIMESTAMP_NTZ(column4) AS ordered_at
    FROM VALUES (1, 1, 10, '2026-01-02 03:04:05'), (2, 2, 20, '2026-01-03 03:04:05'),
        (3, 3, 30, '2026-02-02 03:04:05'), (4, 1, 40, '2026-02-05 03:04:05')""",
)
# In a realistic workload every fifth table reads the two before it, as marts read staging tables.
_MART_EVERY = 5


@dataclass(frozen=True)
class Table:
    """A table of a workload.

    Attributes:
        name: Without the schema, which is ANALYTICS for all.
        template: The SELECT, with `{0}`, `{1}` where it names what it reads.
        reads: `schema.table` of what it reads, in the order of the template.
    """

    name: str
    template: str
    reads: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Schema and table."""
        return f"analytics.{self.name}"

    def sql(self, name: Callable[[str], str] = lambda read: read) -> str:
        """Return the SELECT, with what it reads named by a function."""
        return self.template.format(*map(name, self.reads))


def workload(count: int, kind: Kind) -> list[Table]:
    """Return so many tables: constants that read nothing, or 45 lines each on sources and on one another."""
    if kind == "trivial":
        return [Table(_name(number), f"select {number} as id") for number in range(count)]
    return [_mart(number) if number % _MART_EVERY == _MART_EVERY - 1 else _staging(number) for number in range(count)]


def _name(number: int) -> str:
    return f"t_{number:05d}"


def _staging(number: int) -> Table:
    measures = "\n".join(
        f"        sum(case when enriched.amount > {step + number % 7} then enriched.amount else 0 end) as over_{step:02d},"
        for step in range(16)
    )
    template = f"""with orders as (
    select
        order_id,
        customer_id,
        amount,
        date_trunc('month', ordered_at) as month
    from {{0}}
    where amount >= {number % 9}.{number:05d}
),

customers as (
    select
        customer_id,
        upper(country) as country
    from {{1}}
),

enriched as (
    select
        orders.month,
        customers.country,
        orders.amount
    from orders
    inner join customers on orders.customer_id = customers.customer_id
),

measured as (
    select
        enriched.month,
        enriched.country,
{measures}
        count(*) as orders
    from enriched
    group by enriched.month, enriched.country
)

select * from measured"""
    return Table(_name(number), template, SOURCES)


def _mart(number: int) -> Table:
    measures = ",\n".join(f"    coalesce(current_.over_{step:02d}, 0) as over_{step:02d}" for step in range(16))
    changes = ",\n".join(
        f"    coalesce(current_.over_{step:02d}, 0) - coalesce(other.over_{step:02d}, 0) as change_{step:02d}"
        for step in range(16)
    )
    template = f"""select
    current_.month,
    current_.country,
    current_.orders,
{measures},
{changes}
from {{0}} as current_
left join {{1}} as other
    on
        current_.month = other.month
        and current_.country = other.country"""
    return Table(_name(number), template, (f"analytics.{_name(number - 1)}", f"analytics.{_name(number - 2)}"))


def project_files(tables: list[Table]) -> dict[str, str]:
    """Return the folder of tables of this project."""
    header = "/* elt\ndescription: Table {name} of a benchmark.\nchecks:\n  row_count: {{min: 1}}\nelt */\n"
    return {f"analytics/{table.name}.sql": header.format(name=table.name) + table.sql() + "\n" for table in tables}


def raw_files(tables: list[Table]) -> dict[str, str]:
    """Return what the bare script reads."""
    own = {table.key for table in tables}
    listed = [
        {"key": table.key, "sql": table.sql(), "parents": [read for read in table.reads if read in own]}
        for table in tables
    ]
    return {"tables.json": json.dumps(listed)}


def dbt_files(tables: list[Table], *, threads: int) -> dict[str, str]:
    """Return a dbt project with a profile that takes its connection from the environment.

    https://docs.getdbt.com/docs/core/connect-data-platform/snowflake-setup
    """
    models = [
        {
            "name": table.name,
            "description": f"Table {table.name} of a benchmark.",
            "data_tests": [{"row_count": {"arguments": {"min": 1}}}],
        }
        for table in tables
    ]
    sources = [{"name": "raw_data", "tables": [{"name": source.split(".")[1]} for source in SOURCES]}]
    return {
        "dbt_project.yml": json.dumps(
            {
                "name": "bench",
                "profile": "bench",
                "model-paths": ["models"],
                # Permanent, as those of the others are.
                "models": {"bench": {"+materialized": "table", "+transient": False}},
                "flags": {"send_anonymous_usage_stats": False},
            }
        ),
        "profiles.yml": json.dumps(_profiles(threads)),
        "macros/row_count.sql": (
            "{% test row_count(model, min) %}\n"
            "select count(*) as row_count from {{ model }} having count(*) < {{ min }}\n"
            "{% endtest %}\n"
        ),
        # JSON is YAML, which is what dbt reads.
        "models/schema.yml": json.dumps({"version": 2, "sources": sources, "models": models}, indent=1),
        **{f"models/{table.name}.sql": table.sql(_dbt_name) + "\n" for table in tables},
    }


def _dbt_name(read: str) -> str:
    schema, table = read.split(".")
    return f"{{{{ source('{schema}', '{table}') }}}}" if read in SOURCES else f"{{{{ ref('{table}') }}}}"


def _profiles(threads: int) -> Mapping[str, object]:
    variables = ("account", "user", "password", "role", "warehouse", "database", "host", "protocol")
    target: dict[str, object] = {name: f"{{{{ env_var('BENCH_{name.upper()}') }}}}" for name in variables}
    target |= {"type": "snowflake", "schema": "analytics", "threads": threads}
    target["port"] = "{{ env_var('BENCH_PORT') | as_number }}"
    return {"bench": {"target": "bench", "outputs": {"bench": target}}}


def sqlmesh_files(tables: list[Table]) -> dict[str, str]:
    """Return the models of a SQLMesh project. Each reads the others by their names.

    Its own audit wants more rows than the threshold: https://sqlmesh.readthedocs.io/en/stable/concepts/audits/.
    """
    header = (
        "MODEL (\n  name {key},\n  kind FULL,\n  description 'Table {name} of a benchmark.',\n"
        "  audits (number_of_rows(threshold := 0))\n);\n\n"
    )
    return {
        f"models/{table.name}.sql": header.format(key=table.key, name=table.name) + table.sql() + "\n"
        for table in tables
    }


def write(directory: Path, files: Mapping[str, str]) -> None:
    """Write files below a directory, which is made; what is there already is overwritten."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
