"""Use the installed wheel as a project of another team does: folders of tables, assets of its own in the same run, and a component."""

import importlib
import importlib.metadata
import sys
import tempfile
from pathlib import Path

import dagster as dg

import run_elt_dagster as elt

TABLES = {"sales/shop/orders.sql": "select n from raw.orders", "finance/books/costs.sql": "select n from shop.orders"}
COMPONENT = (
    "type: run_elt_dagster.SqlTables\nattributes: {folder: sql, snowflake: embedded, settings: {embedded_dir: data}}"
)
REJECTED = "/* elt\nchecks: {row_count: {min: 9}}\nelt */\nselect n from shop.orders"


def main() -> None:
    """Run all tables twice, the second time with one that is rejected; fail if an asset of the team ran when it must not."""
    files = [str(file) for file in importlib.metadata.files("run_elt_dagster") or ()]
    assert files, "the wheel is not installed"  # noqa: S101
    unwanted = [
        name
        for name in files
        if name.endswith(".test.yaml") or name.startswith(("benchmarks", "run_elt_dagster_tests"))
    ]
    assert not unwanted, unwanted  # noqa: S101
    ran: list[str] = []

    @dg.asset(key=["ingest", "orders"])
    def loads_orders(snowflake: elt.Snowflake) -> None:
        snowflake.connect_and_execute("create schema if not exists raw")
        snowflake.connect_and_execute("create or replace table raw.orders as select 1 as n")

    @dg.asset(deps=[["books", "costs"]])
    def report() -> None:
        ran.append("report")

    @dg.asset(deps=[["sales", "shop", "orders"]])
    def sales_report() -> None:
        ran.append("sales_report")

    with tempfile.TemporaryDirectory() as folder, dg.DagsterInstance.ephemeral() as instance:
        place = Path(folder)
        for name, sql in TABLES.items():
            (place / name).parent.mkdir(parents=True)
            (place / name).write_text(sql, encoding="utf-8")

        def run() -> bool:
            sales = elt.SqlFolder(
                place / "sales", name="sales", key_prefix="sales", asset_keys={"raw.orders": "ingest/orders"}
            )
            defs = dg.Definitions.merge(
                dg.Definitions(assets=[loads_orders, report, sales_report], jobs=[dg.define_asset_job("everything")]),
                elt.build_defs(
                    sales,
                    elt.SqlFolder(place / "finance", name="finance"),
                    snowflake=elt.Snowflake(embedded_dir=str(place / "embedded"), sample_data=False),
                    settings=elt.Settings(cache_dir=None),
                ),
            )
            job = defs.resolve_job_def("everything")
            return job.execute_in_process(instance=instance, raise_on_error=False).success

        assert run(), "the tables were not published"  # noqa: S101
        assert sorted(ran) == ["report", "sales_report"], ran  # noqa: S101
        (place / "finance/books/costs.sql").write_text(REJECTED, encoding="utf-8")
        ran.clear()
        assert not run(), "a rejected table did not fail its run"  # noqa: S101
        assert ran == ["sales_report"], ran  # noqa: S101
        use_component(place / "component", instance)
    print(
        f"{len(files)} files in the wheel; assets of a team ran when their table was published, and only then; a component builds"
    )


def use_component(place: Path, instance: dg.DagsterInstance) -> None:
    """Build the table of a defs.yaml; fail if `dg` would not find the component."""
    registered = importlib.metadata.entry_points(group="dagster_dg_cli.registry_modules", name="run_elt")
    assert [each.load() for each in registered] == [elt], registered  # noqa: S101
    assert "SqlTables" in dir(elt)  # noqa: S101
    for name, text in {
        "shop/__init__.py": "",
        "shop/defs/__init__.py": "",
        "shop/defs/warehouse/defs.yaml": COMPONENT.replace("data", str(place / "data")),
        "shop/defs/warehouse/sql/shop/days.sql": "select 1 as n",
    }.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text, encoding="utf-8")
    sys.path.insert(0, str(place))
    tree = dg.ComponentTree.from_module(defs_module=importlib.import_module("shop.defs"), project_root=place)
    job = tree.build_defs_at_path("warehouse").resolve_job_def("warehouse_tables")
    assert job.execute_in_process(instance=instance, raise_on_error=False).success  # noqa: S101


if __name__ == "__main__":
    main()
