import hashlib
from collections import Counter, defaultdict
from datetime import datetime
from functools import cache
from typing import NamedTuple

import duckdb

from run_elt_dagster.embedded.sql_files import sql_file

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


class Session(NamedTuple):
    started_at: datetime
    user_id: int
    session_id: str
    channel: str


@cache
def sessions() -> list[Session]:
    with duckdb.connect() as duck:
        duck.execute(sql_file("sample_data", schema="memory.main"))
        duck.execute(
            "SELECT ts, userid, sessionid, channel FROM user_session_channel JOIN session_timestamp USING (sessionid) "
            "ORDER BY ts, userid, sessionid"
        )
        return [Session(*row) for row in duck.fetchall()]


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
    text = "\n".join("|".join(map(str, session)) for session in sessions())
    assert hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() == "95a4113ae4d7a724137c77cc426f8668"


def test_months_begin_and_end_with_a_session() -> None:
    instants = {str(session.started_at) for session in sessions()}
    assert {"2019-05-01 00:00:00", "2019-05-31 23:59:59.999000", "2019-11-30 23:59:59.999000"} <= instants


def test_months_have_sessions_in_proportion_to_their_users() -> None:
    found = Counter(month_of(session) for session in sessions())
    for month, users in MAU.items():
        assert abs(found[month] - 101_520 * users / sum(MAU.values())) < 1
