from datetime import UTC, datetime
from pathlib import Path

import pytest

from run_elt_dagster.model.alert_rule import PageAfter
from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.model.problems import TableProblemsError
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.model.table_files import load_table
from run_elt_dagster.orchestration.code_versions import code_version
from run_elt_dagster.orchestration.specs import channels_of, owners_of, receivers_of, rules_of


def folder(directory: Path, **files: str) -> Path:
    """Write `sales/a.sql` and `alerts.yaml` files: `whole` for the folder, `sales` for its schema."""
    (directory / "sales").mkdir(parents=True)
    places = {"a": "sales/a.sql", "b": "sales/b.sql", "whole": "alerts.yaml", "sales": "sales/alerts.yaml"}
    for name, text in {"a": "select 1 as n", **files}.items():
        (directory / places[name]).write_text(text, encoding="utf-8")
    return directory


def test_what_is_nearer_to_the_table_counts_key_by_key(tmp_path: Path) -> None:
    directory = folder(
        tmp_path,
        a="/* elt\nowner: team:sales\nalerts: {owners: [jane@example.com, team:sales]}\nelt */ select 1 as n",
        b="select 1 as n",
        whole="channel: C0ALL\nowners: [team:data]\nreceivers: oncall\n",
        sales="channel: C0SALES\n",
    )
    tables = load_tables(directory)
    assert channels_of(tables) == {"sales.a": "C0SALES", "sales.b": "C0SALES"}
    assert receivers_of(tables) == {"sales.a": ("oncall",), "sales.b": ("oncall",)}
    assert owners_of(tables) == {"sales.a": ["team:sales", "jane@example.com"], "sales.b": ["team:data"]}
    assert load_table(directory, "sales.b").alerts == tables[("sales", "b")].alerts


def test_whom_the_alerts_concern_puts_no_table_out_of_date(tmp_path: Path) -> None:
    plain = load_tables(folder(tmp_path / "plain"))[("sales", "a")]
    routed = load_tables(folder(tmp_path / "routed", whole="channel: C0ALL\n"))[("sales", "a")]
    assert routed.alerts.channel == "C0ALL"
    assert code_version(plain) == code_version(routed)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("channel: '#sales'\n", 1, "channel: requires the ID of a channel, as in C0123456789"),
        (
            "owners: [team:a]\nchanel: C0A\n",
            2,
            "unknown key 'chanel'. Known keys: channel, owners, severity, quiet, page_after, receivers.",
        ),
        ("owners:\n- Jane Doe\n", 1, "owners: requires e-mail addresses or team:<name>, got Jane Doe"),
        ("channel: C0A\nchannel: C0B\n", 2, "channel"),
        ("severity: page\nquiet: 22:00-07:00\n", 2, "quiet: requires severity: notify, got page"),
        ("severity: notify\nquiet: at night\n", 2, "quiet: requires two times of the day with their time zone"),
        ("severity: notify\nquiet: 07:00-07:00 UTC\n", 2, "quiet: requires two different times"),
        ("severity: page\npage_after: 2h\n", 2, "page_after: requires severity: notify or digest, got page"),
        ("severity: notify\npage_after: soon\n", 2, "page_after: requires two failures or more, a time or both"),
        ("severity: notify\npage_after: 1 failures\n", 2, "page_after: requires two failures or more"),
        ("severity: notify\npage_after: 2d\n", 2, "page_after: requires a day at most, got '2d'"),
        ("channel: C0A\nseverity: low\n", 2, "severity: requires 'page', 'notify' or 'digest', got 'low'."),
        ("receivers: []\n", 1, "receivers: requires one name at least: an alert without a receiver could be lost"),
        ("receivers: [on call]\n", 1, "receivers: requires names of receivers, as RUN_ELT_ALERT_RECEIVERS has them"),
        ("- C0A\n", 1, "alerts.yaml requires"),
    ],
)
def test_wrong_file_of_a_folder_is_an_error_with_its_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    with pytest.raises(TableProblemsError) as raised:
        load_tables(folder(tmp_path, sales=text))
    (problem,) = raised.value.problems
    assert (problem.path, problem.line) == (tmp_path / "sales" / "alerts.yaml", line)
    assert says in problem.message


def test_wrong_rule_of_a_table_is_an_error_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(TableProblemsError) as raised:
        load_tables(folder(tmp_path, a="/* elt\nalerts:\n  channel: sales\nelt */ select 1 as n"))
    (problem,) = raised.value.problems
    assert (problem.path, problem.line) == (tmp_path / "sales" / "a.sql", 3)
    assert problem.message.startswith("alerts.channel: requires the ID of a channel")


def test_quiet_hours_of_a_folder_are_without_effect_where_a_table_pages(tmp_path: Path) -> None:
    directory = folder(
        tmp_path,
        a="/* elt\nalerts: {severity: notify}\nelt */ select 1 as n",
        b="/* elt\nalerts: {severity: page}\nelt */ select 1 as n",
        whole="quiet: 22:00-07:00 Europe/Berlin\n",
    )
    tables = load_tables(directory)
    night = datetime(2026, 7, 1, 21, tzinfo=UTC)
    assert tables[("sales", "a")].alerts.quiet_until(night) == datetime(2026, 7, 2, 5, tzinfo=UTC)
    assert tables[("sales", "b")].alerts.quiet_until(night) is None
    assert set(rules_of(tables)) == {"sales.a", "sales.b"}


def test_quiet_hours_that_a_table_has_in_vain_are_an_error_with_their_line(tmp_path: Path) -> None:
    with pytest.raises(TableProblemsError) as raised:
        load_tables(folder(tmp_path, a="/* elt\nalerts:\n  quiet: 22:00-07:00\nelt */ select 1 as n"))
    (problem,) = raised.value.problems
    assert (problem.path, problem.line) == (tmp_path / "sales" / "a.sql", 3)
    assert problem.message == "alerts.quiet: requires severity: notify, got none, so page."


def test_mapping_has_the_same_rule() -> None:
    table = AnalyticsTable.model_validate(
        {"schema": "s", "table": "t", "sql": "select 1 as n", "alerts": {"owners": "team:a"}}
    )
    assert table.mentioned == ("team:a",)


@pytest.mark.parametrize(
    ("text", "failures", "seconds", "words"),
    [
        ("3 failures", 3, 0, "3 failures in a row"),
        ("3 failures", 2, 1e6, ""),
        ("2h", 9, 7199, ""),
        ("90 m", 0, 5400, "it has failed for 90 min"),
        ("3 failures or 2h", 2, 7200, "it has failed for 2 h"),
    ],
)
def test_alert_pages_after_its_failures_or_its_time(text: str, failures: int, seconds: float, words: str) -> None:
    assert PageAfter.of(text).words(failures=failures, seconds=seconds) == words
