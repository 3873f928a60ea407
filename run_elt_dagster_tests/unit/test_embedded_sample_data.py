from collections import Counter, defaultdict
from functools import cache

import pytest

from run_elt_dagster.embedded.sample_data import Session, sample_sessions, shares

MAU = {
    "2019-05": 281,
    "2019-06": 459,
    "2019-07": 623,
    "2019-08": 662,
    "2019-09": 639,
    "2019-10": 763,
    "2019-11": 721,
}
CHANNELS = {
    "Facebook": 16_791,
    "Google": 16_982,
    "Instagram": 16_831,
    "Naver": 16_921,
    "Organic": 16_904,
    "Youtube": 17_091,
}


@cache
def sessions() -> list[Session]:
    return sample_sessions()


def month_of(session: Session) -> str:
    return f"{session.started_at:%Y-%m}"


def test_sample_has_its_number_of_sessions_each_with_an_id_of_its_own() -> None:
    assert len({session.session_id for session in sessions()}) == len(sessions()) == 101_520


def test_sample_has_the_active_users_of_every_month() -> None:
    users = defaultdict(set)
    for session in sessions():
        users[month_of(session)].add(session.user_id)
    assert {month: len(ids) for month, ids in users.items()} == MAU


def test_sample_has_the_sessions_of_every_channel() -> None:
    assert Counter(session.channel for session in sessions()) == CHANNELS


def test_sample_has_its_users() -> None:
    assert {session.user_id for session in sessions()} == set(range(1, 950))


def test_sample_is_the_same_everywhere() -> None:
    thousandth = ["2019-05-05 13:06:14.316000", "219", "e737258b37792e9e567c0cb688eb4564", "Naver"]
    assert [str(value) for value in sessions()[1000]] == thousandth


def test_months_begin_and_end_with_a_session() -> None:
    instants = {str(session.started_at) for session in sessions()}
    assert {"2019-05-01 00:00:00", "2019-05-31 23:59:59.999000", "2019-11-30 23:59:59.999000"} <= instants


@pytest.mark.parametrize("total", [0, 1, 7, 1000])
def test_shares_add_up(total: int) -> None:
    assert sum(shares(total, {"a": 3, "b": 5, "c": 7}).values()) == total


def test_shares_follow_the_largest_remainders() -> None:
    assert shares(10, {"a": 1, "b": 1, "c": 4}) == {"a": 2, "b": 2, "c": 6}
