"""What the check `changes` calls the same, and that a kept candidate is published as it was audited."""

import pytest

from run_elt_dagster.audit.plan import AuditOutcome
from run_elt_dagster.model.candidate import by_hand_in
from run_elt_dagster.publish.kept import Kept, Published, Publisher
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster_tests.support.snowflake_account import METHODS, OwnTable, built

# One row for each kind of value: the same value twice, written differently where that is possible, and another one.
SAME, OTHER = (
    "select 1 as k, {}::number(10, 2) as n, {}::float as f, {}::varchar as t, {}::boolean as b, {}::binary as x, "
    "{}::timestamp_ntz as ts, {}::timestamp_tz as tz, parse_json({}) as v".format(*values)
    for values in (
        ("1.5", "1.5", "'a'", "true", "to_binary('0A', 'HEX')", "'2026-01-01 00:00:00'", "'2026-01-01 00:00:00 +0100'", '\'{"a": 1, "b": [2]}\''),
        ("1.6", "'NaN'", "null", "false", "to_binary('0B', 'HEX')", "'2026-01-01 00:00:01'", "'2025-12-31 23:00:00 +0000'", '\'{"a": 1, "b": [3]}\''),
    )
)  # fmt: skip
NEAR = SAME.replace("1.5::float", "1.500000000001::float").replace('{"a": 1, "b": [2]}', '{"b": [2], "a": 1}')


def _changes(outcome: TableOutcome) -> AuditOutcome:
    return next(each for each in outcome.audits if each.audit.name == "changes")


def test_each_kind_of_value_is_the_same_as_itself_and_no_other(table: OwnTable) -> None:
    head = "/* elt\nprimary_key: k\nchecks: {changes: {max_changed: 0}}\nelt */ "
    table.publish("0000000A", head + SAME)
    assert _changes(table.publish("0000000B", head + NEAR)).got["rows_changed"] == 0
    failed = _changes(table.run("0000000C", head + OTHER))
    assert {name for name in failed.got if name.startswith("changed_")} == {
        f"changed_{name}" for name in ("n", "f", "t", "b", "x", "ts", "tz", "v")
    }


@pytest.mark.parametrize("publish", METHODS)
def test_kept_candidate_is_published_only_as_it_was_audited(table: OwnTable, publish: str) -> None:
    session, more = table.schema.session(), "primary_key: n\nchecks: {changes: {max_added: 0}}"
    table.publish("0000000A", built(3, 1, publish=publish))
    for run_id in ("0000000B", "0000000C"):
        assert table.run(run_id, built(5, 2, publish=publish, more=more)).failure is not None
    _, candidate = table.relations("0000000B")
    session.sql(f"update {candidate.sql} set v = 9 where n = 0")
    options = PublishOptions(
        copy_tags=table.schema.account.copy_tags, check_policies=table.schema.account.check_policies
    )
    with table.schema.watched(lambda _, __: None) as watched:
        publisher = Publisher(watched, table.parsed(built(5, 2, publish=publish, more=more)), options=options)
        for run_id, is_published in (("0000000B", False), ("0000000C", True)):
            found = publisher.find(run_id)
            assert isinstance(found, Kept)
            done = publisher.publish(found, person="tests", waived=())
            assert done.outcome.published is is_published, done.outcome.failure
        assert isinstance(publisher.find("0000000C"), Published)
    assert table.seen(session) == (5, 2, 2)
    by_hand = by_hand_in(table.comment(session))
    assert by_hand is not None
    assert (by_hand.person, by_hand.waived) == ("tests", ("changes",))
