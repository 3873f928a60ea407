from datetime import UTC, datetime
from typing import Any

import pytest

from run_elt_dagster.model.candidate import (
    Marker,
    candidate_of,
    is_candidate_of,
    is_from_its_run,
    marker_in,
    run_of_candidate,
    target_of,
)
from run_elt_dagster.model.names import Relation, is_candidate_name, short_id
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.grants import Grant, grant_changes_sql, grants_of
from run_elt_dagster.publish.guards import (
    InventoryTable,
    PublishRefusedError,
    Refusal,
    TargetInventory,
    inventory_of,
    require_same_columns,
)
from run_elt_dagster.publish.kept import kept_or_published
from run_elt_dagster.publish.methods import exchange_sql, refusal
from run_elt_dagster.publish.statements import build_sql, column_comments_sql, drop_sql
from run_elt_dagster.publish.versions import candidates_in, newest_published
from run_elt_dagster.snowflake.session import Answer

RUN_ID = "8f3a01c2-0000-4000-8000-000000000000"
MARKER = Marker("run", RUN_ID, "2026-11-25T00:00:00.000000Z")
X, TEMP = '"PROD"."ANALYTICS"."MAU"', '"PROD"."ANALYTICS"."TEMP_MAU__8F3A01C2"'


def a_table(**changes: Any) -> AnalyticsTable:
    return AnalyticsTable.model_validate(
        {"schema": "analytics", "table": "mau", "sql": "select 1 as n -- end", **changes}
    )


def candidate(table: AnalyticsTable | None = None) -> Relation:
    return candidate_of(table or a_table(), database="PROD", run_id=RUN_ID)


def exchange(*, exists: bool, columns: tuple[str, ...] = (), copy_tags: bool = True, **changes: Any) -> str:
    table = a_table(**changes)
    return exchange_sql(
        table,
        target=target_of(table, database="PROD"),
        candidate=candidate(table),
        exists=exists,
        columns=columns,
        copy_tags=copy_tags,
    )


def test_candidate_is_named_after_the_run() -> None:
    assert str(candidate()) == "PROD.ANALYTICS.TEMP_MAU__8F3A01C2"


@pytest.mark.parametrize("identifier", ["plain", "x" * 250, '"a.b"', "a__b"])
def test_candidate_of_any_name_says_of_which_run_it_is(identifier: str) -> None:
    name = candidate(a_table(identifier=identifier)).name
    assert is_candidate_name(name)
    assert run_of_candidate(name) == short_id(RUN_ID).upper()


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("TEMP_MAU__8F3A01C2", True),
        ("TEMP_MAU__DAILY", False),
        # A candidate of the table mau__x.
        ("TEMP_MAU__X__8F3A01C2", False),
        ("TEMP_MAU__8F3A01C2__8F3A01C2", False),
        ("TEMP_MAU__8f3a01c2", False),
        ("MAU", False),
    ],
)
def test_candidate_of_a_table_has_the_suffix_of_a_run_and_nothing_else(name: str, is_one: bool) -> None:
    assert is_candidate_of(a_table(), name) is is_one


def test_copy_of_a_published_table_is_not_from_the_run_of_its_name() -> None:
    assert is_from_its_run("TEMP_MAU__8F3A01C2", MARKER)
    assert not is_from_its_run("TEMP_MAU__20250101", MARKER)


@pytest.mark.parametrize("name", ["x" * 255, "y z", 'a"b', "größe", "select"])
def test_names_that_bite_make_a_target_and_a_candidate(name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    table = a_table(identifier=quoted)
    assert target_of(table, database="PROD").sql == f'"PROD"."ANALYTICS".{quoted}'
    assert len(candidate(table).name) <= 255
    assert candidate(table).name.endswith("__8F3A01C2")


def test_build_embeds_the_sql_byte_for_byte_and_carries_the_run_in_its_comment() -> None:
    assert build_sql(a_table(description="Ada's \\ n"), candidate(), marker=MARKER) == (
        f"CREATE OR REPLACE TABLE {TEMP} "
        f"COMMENT = 'Ada''s \\\\ n [run_elt run {RUN_ID} at 2026-11-25T00:00:00.000000Z]' AS (\nselect 1 as n -- end\n)"
    )


def test_marker_is_read_back_from_a_comment() -> None:
    assert marker_in(f"any [text] {MARKER}") == MARKER
    assert marker_in("[run_elt run abc]") == Marker("run", "abc")
    assert marker_in("nothing") is marker_in(None) is None


def test_build_of_a_transient_table_makes_a_transient_candidate() -> None:
    assert build_sql(a_table(transient=True), candidate(), marker=MARKER).startswith(
        "CREATE OR REPLACE TRANSIENT TABLE "
    )


def test_columns_are_commented_by_name() -> None:
    table = a_table(columns={"n": {"description": "It's n"}, '"m m"': {"description": "m"}, "o": "int"})
    assert column_comments_sql(table, candidate()) == (
        f"ALTER TABLE {TEMP} MODIFY COLUMN \"N\" COMMENT 'It''s n', COLUMN \"m m\" COMMENT 'm'"
    )
    assert column_comments_sql(a_table(), candidate()) is None


@pytest.mark.parametrize(
    ("method", "exists", "expected"),
    [
        ("clone", False, f"CREATE TABLE {X} CLONE {TEMP}"),
        ("clone", True, f"CREATE OR REPLACE TABLE {X} CLONE {TEMP} COPY GRANTS COPY TAGS"),
        ("swap", False, f"ALTER TABLE {TEMP} RENAME TO {X}"),
        ("swap", True, f"ALTER TABLE {X} SWAP WITH {TEMP}"),
        ("overwrite", False, f"CREATE TABLE {X} CLONE {TEMP}"),
    ],
)
def test_exchange_is(method: str, exists: bool, expected: str) -> None:
    assert exchange(exists=exists, publish=method) == expected


def test_overwrite_names_the_columns_since_insert_goes_by_position() -> None:
    assert exchange(exists=True, columns=("N", "mixed Case"), publish="overwrite") == (
        f'INSERT OVERWRITE INTO {X} ("N", "mixed Case") SELECT "N", "mixed Case" FROM {TEMP}'
    )


def test_overwrite_is_refused_when_the_columns_differ() -> None:
    with pytest.raises(PublishRefusedError, match="got new columns: B; missing columns: A"):
        require_same_columns(a_table(), candidate(), new=("N", "B"), published=("A", "N"))


def test_clone_of_a_transient_table_replaces_by_a_transient_table() -> None:
    assert exchange(exists=True, transient=True, copy_tags=False) == (
        f"CREATE OR REPLACE TRANSIENT TABLE {X} CLONE {TEMP} COPY GRANTS"
    )


def refused(method: str = "clone", **existing: Any) -> Refusal | None:
    found = InventoryTable(**{"kind": "BASE TABLE", "owner": "R", **existing})
    table = a_table(publish=method)
    return refusal(table, target_of(table, database="PROD"), found, role="R")


@pytest.mark.parametrize("method", ["clone", "swap", "overwrite"])
@pytest.mark.parametrize("kind", ["VIEW", "EXTERNAL TABLE", "DYNAMIC TABLE", "MATERIALIZED VIEW"])
def test_target_that_is_no_table_is_refused(method: str, kind: str) -> None:
    found = refused(method, kind=kind)
    assert found is not None
    assert f"requires a table as its target, got a {kind.lower()} at PROD" in found.message
    assert found.reason is Reason.NO_TABLE


@pytest.mark.parametrize("method", ["clone", "swap"])
@pytest.mark.parametrize(
    ("existing", "reason", "words"),
    [
        ({"policies": ("masking policy P",)}, Reason.POLICIES, "masking policy P on it"),
        ({"streams": ("D.S.CHANGES",)}, Reason.STREAMS, "streams that read it: D.S.CHANGES"),
        ({"owner": "OTHER"}, Reason.OWNER, "a table that role OTHER owns, not R"),
        ({"managed_by": "ADMIN"}, Reason.MANAGED_ACCESS, "a managed access schema that role ADMIN owns"),
        ({"unknown": ("policies: no privilege",)}, Reason.POLICIES_UNKNOWN, "policies: no privilege"),
        ({"kind": "ICEBERG TABLE"}, Reason.SPECIAL_TABLE, "iceberg table"),
    ],
)
def test_what_another_object_would_lose_is_refused_with_the_remedy(
    method: str, existing: dict[str, Any], reason: Reason, words: str
) -> None:
    found = refused(method, **existing)
    assert found is not None
    assert words in found.message
    assert "publish: overwrite" in found.message
    assert found.reason is reason
    assert refused("overwrite", **existing) is None


def test_plain_table_of_the_own_role_is_not_refused() -> None:
    assert refused() is refused("swap", managed_by="R") is None
    assert refusal(a_table(), candidate(), None, role="R") is None


def test_stock_of_no_schema_knows_nothing() -> None:
    assert inventory_of([]).at(candidate()) is None


GRANTS = [
    ("t", "OWNERSHIP", "TABLE", "X", "ROLE", "R", "true", "R"),
    ("t", "SELECT", "TABLE", "X", "ROLE", "read er", "true", "R"),
    ("t", "SELECT", "TABLE", "X", "DATABASE_ROLE", "D", "false", "R"),
    ("t", "SELECT", "TABLE", "X", "SHARE", "ORG.ACC.S", "false", "R"),
]


def test_grants_are_carried_over_exactly() -> None:
    wanted = grants_of(GRANTS, candidate())
    extra = Grant("INSERT", "ROLE", ("FUTURE",))
    assert grant_changes_sql(candidate(), present=frozenset({extra}), wanted=wanted) == [
        f'REVOKE INSERT ON TABLE {TEMP} FROM ROLE "FUTURE"',
        f'GRANT SELECT ON TABLE {TEMP} TO DATABASE ROLE "PROD"."D"',
        f'GRANT SELECT ON TABLE {TEMP} TO ROLE "read er" WITH GRANT OPTION',
        f'GRANT SELECT ON TABLE {TEMP} TO SHARE "S"',
    ]
    assert grant_changes_sql(candidate(), present=wanted, wanted=wanted) == []


def test_grant_to_a_grantee_of_another_kind_is_refused() -> None:
    with pytest.raises(PublishRefusedError, match="got SELECT to APPLICATION A"):
        grants_of([("t", "SELECT", "TABLE", "X", "APPLICATION", "A", "false", "R")], candidate())


def test_drop_is_safe_to_repeat() -> None:
    assert drop_sql(candidate()) == f"DROP TABLE IF EXISTS {TEMP}"


LATER, LATEST = (f"2026-11-25T00:0{minute}:00.000000Z" for minute in (1, 2))
DROPPED_AT = datetime(2026, 11, 25, 1, tzinfo=UTC)


def built(state: str, at: str, *, dropped: bool = True, run: str = "b") -> TableVersion:
    comment = f"[run_elt {state} {run} at {at}]"
    return TableVersion(comment=comment, dropped_at=DROPPED_AT if dropped else None)


@pytest.mark.parametrize(
    "candidates",
    [
        [built("run", LATER)],
        [built("run", MARKER.at, run="0"), built("run", LATER), TableVersion()],
        # The candidates of both were dropped, so the last one was published.
        [
            built("failed", MARKER.at, run="0"),
            built("run", "2026-11-25T00:00:30.000000Z", run="a"),
            built("run", LATER),
        ],
    ],
)
def test_newest_candidate_that_was_dropped_was_published(candidates: list[TableVersion]) -> None:
    assert newest_published(candidates, after=MARKER) == built("run", LATER)


@pytest.mark.parametrize(
    "candidates",
    [
        [],
        [TableVersion()],
        # Nothing newer.
        [built("run", MARKER.at, run="0")],
        # On its way, or failed, or failed and swept.
        [built("run", LATER, dropped=False)],
        [built("failed", LATER, dropped=False)],
        [built("failed", LATER)],
        # The build was sent again, and its table failed.
        [built("run", LATER), built("failed", LATER, dropped=False)],
        # A still newer run has dropped it, and failed: whether it was published before is not said.
        [built("run", LATER), built("failed", LATEST, run="c", dropped=False)],
    ],
)
def test_candidate_that_may_not_be_published_counts_as_unpublished(candidates: list[TableVersion]) -> None:
    assert newest_published(candidates, after=MARKER) is None


def test_list_of_candidates_leaves_out_what_no_run_has_built_for_the_table() -> None:
    """LIKE takes `_` as any character, a table may be named like another one, and a swap leaves old rows under a run's name."""
    own = ("TEMP_MAU__8F3A01C2", str(MARKER))
    others = [
        ("TEMPXMAU__8F3A01C2", str(MARKER)),
        ("TEMP_MAU__B__8F3A01C2", str(MARKER)),
        ("TEMP_MAU__COPY", str(MARKER)),
        ("TEMP_MAU__8F3A01C2", "[run_elt run 00000000 at 2026-11-24]"),
        ("TEMP_MAU__8F3A01C2", ""),
    ]
    rows = tuple((name, comment, None) for name, comment in [own, *others])
    answer = Answer(rows, "01-1", 0.1, ("name", "comment", "dropped_on"))
    assert candidates_in(answer, a_table()) == [TableVersion("TEMP_MAU__8F3A01C2", comment=str(MARKER))]


def test_kept_candidate_of_a_table_with_policies_is_refused() -> None:
    """A killed command may have left its policies on it, and its checks would count what they show."""
    table = AnalyticsTable.model_validate(
        {"schema": "a", "table": "b", "sql": "select 1 as n", "policies": {"masking": {"n": "g.mask"}}}
    )
    with pytest.raises(PublishRefusedError, match="requires a table without policies in its file, got some"):
        kept_or_published(table, TargetInventory(), "8f3a01c2", database="DB")
