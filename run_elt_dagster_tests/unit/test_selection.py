"""Which runs are refused since their selection matched nothing, and what their message says."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from run_elt_dagster.model.lineage import Catalogue, catalogue
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.orchestration.selection import refuse_empty_selection

MAU = dg.AssetKey(["analytics", "mau_summary"])


def a_catalogue(*names: str, more: str = "") -> Catalogue:
    text = f"/* elt\nowner: team:analytics\n{more}\nelt */ select * from raw_data.session"
    return catalogue(
        [
            parse_table_file(Path(f"{name}.sql"), text, schema="analytics", table=name)
            for name in names or ("mau_summary",)
        ]
    )


def message_of(*arguments: str, tables: Catalogue | None = None) -> str:
    tables = tables or a_catalogue("mau_summary", "channel_summary", more="tags: {domain: growth, daily: ''}")
    run = dg.DagsterRun(job_name="__ASSET_JOB", run_id="r")
    with pytest.raises(dg.Failure) as caught:
        refuse_empty_selection(run, list(tables), tables, arguments=arguments)
    return caught.value.description or ""


@pytest.fixture
def seen() -> list[dg.DagsterRun]:
    """The runs as an op sees them, in the order of their launch."""
    return []


def definitions_of(seen: list[dg.DagsterRun]) -> dg.Definitions:
    @dg.multi_asset(
        specs=[dg.AssetSpec(MAU, skippable=True)],
        check_specs=[dg.AssetCheckSpec("row_count", asset=MAU)],
        can_subset=True,
    )
    def tables(context: dg.AssetExecutionContext) -> Iterator[Any]:
        seen.append(context.run)
        yield from ()

    return dg.Definitions(assets=[tables], jobs=[dg.define_asset_job("job", selection="*")])


def refuses(run: dg.DagsterRun) -> bool:
    tables = a_catalogue()
    try:
        refuse_empty_selection(run, list(tables), tables, arguments=())
    except dg.Failure:
        return True
    return False


@pytest.mark.parametrize("selection", [None, [MAU]])
@pytest.mark.parametrize("job", ["job", "__ASSET_JOB"])
def test_job_in_process_is_not_refused(
    seen: list[dg.DagsterRun], job: str, selection: Sequence[dg.AssetKey] | None
) -> None:
    """In this way tests and scripts run their jobs; Dagster records it as an empty selection."""
    definitions = definitions_of(seen)
    implicit = definitions.resolve_implicit_global_asset_job_def()
    chosen = implicit if job == implicit.name else definitions.resolve_job_def(job)
    assert chosen.execute_in_process(asset_selection=selection).success
    assert [refuses(run) for run in seen] == [False]


def test_materialize_in_python_is_not_refused(seen: list[dg.DagsterRun]) -> None:
    assets = list(definitions_of(seen).assets or ())
    with dg.DagsterInstance.ephemeral() as instance:
        assert dg.materialize(assets, instance=instance).success  # pyright: ignore[reportArgumentType]
        assert dg.materialize_to_memory(assets, instance=instance).success  # pyright: ignore[reportArgumentType]
    assert [refuses(run) for run in seen] == [False, False]


def test_reexecution_of_a_refused_run_is_refused() -> None:
    """Dagster takes every table that the refused run planned for a failed one."""
    tables, refused = a_catalogue(), dg.DagsterRun(job_name="__ASSET_JOB", run_id="refused")
    again = dg.DagsterRun(
        job_name="__ASSET_JOB", asset_selection=frozenset({MAU}), root_run_id="refused", parent_run_id="refused"
    )
    with pytest.raises(dg.Failure):
        refuse_empty_selection(again, list(tables), tables, root=refused, arguments=())
    refuse_empty_selection(again, list(tables), tables, root=again, arguments=())


def test_checks_alone_are_not_refused() -> None:
    run = dg.DagsterRun(job_name="__ASSET_JOB", asset_check_selection=frozenset({dg.AssetCheckKey(MAU, "row_count")}))
    assert not refuses(run)


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (["--select", "key:mau_summary"], 'Did you mean key:"analytics/mau_summary"?'),
        (["--select=key:mau_summary"], 'Did you mean key:"analytics/mau_summary"?'),
        (["--assets", 'key:"analytics/MAU_SUMMARY"'], 'Did you mean key:"analytics/mau_summary"?'),
        (["--select", "key:analytics.mau_summary"], 'Did you mean key:"analytics/mau_summary"?'),
        (["--select", "key:analytics__mau_summary+"], 'Did you mean key:"analytics/mau_summary"?'),
        (["--select", "key:analytics/mau_sumary"], 'Did you mean key:"analytics/mau_summary"'),
        (["--select", "key:*_summary"], 'Did you mean key:"analytics/mau_summary" or key:"analytics/channel_summary"?'),
        (["--select", "key:reporting/mau"], 'key:"analytics/mau_summary"'),
        (["--select", "key:x", "--select", "tag:domian=growth"], 'Did you mean tag:"domain"="growth"?'),
        (["--select", "tag:nosuch"], 'Known here: tag:"domain"="growth", tag:"daily".'),
        (["--select", "group:analytic"], 'Did you mean group:"analytics"?'),
        (["--select", "group:raw_data"], 'group:"raw_data" has tables that are loaded elsewhere'),
        (["--select", 'owner:"team:nosuch"'], 'Known here: owner:"team:analytics".'),
        (
            ["--select", "kind:table2 and key:mau"],
            'Did you mean kind:"table"? Did you mean key:"analytics/mau_summary"?',
        ),
        (["--select", "sinks(group:nosuch)"], 'Known here: group:"analytics".'),
        (["api", "grpc"], "got an empty one."),
        (["--select"], "got an empty one."),
        (["api", "grpc"], 'Known here: key:"analytics/mau_summary", key:"analytics/channel_summary".'),
    ],
)
def test_refusal_names_what_may_have_been_meant(arguments: list[str], near: str) -> None:
    message = message_of(*arguments)
    assert near in message
    assert "nothing was built" in message


def test_refusal_asks_only_of_what_is_not_known() -> None:
    message = message_of("--select", 'key:"analytics/mau_summary" and owner:nobody')
    assert "Did you mean" not in message
    assert 'Known here: owner:"team:analytics".' in message


def test_refusal_says_that_no_table_is_in_all_parts() -> None:
    message = message_of("--select", "key:analytics/mau_summary and key:analytics/channel_summary")
    assert "Each part is known here, and no table is in all of them" in message


def test_refusal_names_a_few_of_many_tables() -> None:
    message = message_of("--select", "key:zzz", tables=a_catalogue(*(f"table_{n}" for n in range(1000))))
    assert 'Known here: key:"analytics/table_0", ' in message
    assert message.count("key:") == 6
    assert " and 995 more." in message


def test_refusal_says_that_no_table_has_a_tag_when_none_has() -> None:
    assert "No table has a tag." in message_of("--select", "tag:daily", tables=a_catalogue())
