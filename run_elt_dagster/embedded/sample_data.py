"""Sample data: the sessions of a made-up website's users from May to November 2019.

Made with hashes instead of a random number generator, so every Python version gives the same rows. The numbers of
users per month and of sessions per channel are fixed; tests and examples count on them.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

_MILLISECOND = timedelta(milliseconds=1)
_K = TypeVar("_K", int, str)


@dataclass(frozen=True)
class Month:
    """A calendar month of the sample.

    Attributes:
        begins: Its first instant (UTC, naive as TIMESTAMP_NTZ is).
        ends: The first instant of the next month.
        users: How many distinct users have a session in it.
        new_users: How many of them have none before.
        name: As in `2019-05`.
    """

    begins: datetime
    ends: datetime
    users: int
    new_users: int
    name: str


class Session(NamedTuple):
    """A session of the sample: who, when, through which channel."""

    started_at: datetime
    user_id: int
    session_id: str
    channel: str


def _month(number: int, users: int, new_users: int) -> Month:
    begins, ends = datetime(2019, number, 1), datetime(2019, number + 1, 1)  # noqa: DTZ001 - TIMESTAMP_NTZ
    return Month(begins, ends, users, new_users, name=f"{begins:%Y-%m}")


MONTHS = (
    _month(5, 281, 281),
    _month(6, 459, 197),
    _month(7, 623, 211),
    _month(8, 662, 84),
    _month(9, 639, 17),
    _month(10, 763, 150),
    _month(11, 721, 9),
)
SESSIONS_BY_CHANNEL: Mapping[str, int] = {
    "Facebook": 16_791,
    "Google": 16_982,
    "Instagram": 16_831,
    "Naver": 16_921,
    "Organic": 16_904,
    "Youtube": 17_091,
}


def sample_sessions() -> list[Session]:
    """Return all sessions, the earliest first; every month begins and ends with one, to the millisecond.

    So close to the edges a slip of the time zone moves a user into another month.
    """
    numbers = shares(sum(SESSIONS_BY_CHANNEL.values()), {month.name: month.users for month in MONTHS})
    sessions: list[Session] = []
    for month, users in _active_users():
        sessions += _pinned(_sessions_of(month, users, numbers[month.name]), month)
    return sorted(
        _with_channels(sessions), key=lambda session: (session.started_at, session.user_id, session.session_id)
    )


def shares(total: int, weights: Mapping[_K, int]) -> dict[_K, int]:
    """Divide a number in proportion to weights, into whole numbers that add up: the largest remainders get one more."""
    whole = sum(weights.values())
    divided = {name: total * weight // whole for name, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda name: (-(total * weights[name] % whole), name))
    for name in by_remainder[: total - sum(divided.values())]:
        divided[name] += 1
    return divided


def _active_users() -> list[tuple[Month, list[int]]]:
    """Return the users of each month: the new ones, and some of those who came before."""
    active: list[tuple[Month, list[int]]] = []
    known: list[int] = []
    for month in MONTHS:
        new = list(range(len(known) + 1, len(known) + 1 + month.new_users))
        returning = sorted(known, key=lambda user: _hashed(f"stay:{month.name}:{user}"))[
            : month.users - month.new_users
        ]
        active.append((month, sorted(returning + new)))
        known += new
    return active


def _sessions_of(month: Month, users: Sequence[int], number: int) -> list[Session]:
    """Return a month's sessions: one for each user, the rest by how active they are. Their channels come later."""
    activity = {user: 1 + _hashed(f"act:{user}") % 40 for user in users}
    more = shares(number - len(users), activity)
    return [_session(month, user, index) for user in users for index in range(1 + more[user])]


def _session(month: Month, user: int, index: int) -> Session:
    milliseconds = _hashed(f"ts:{month.name}:{user}:{index}") % ((month.ends - month.begins) // _MILLISECOND)
    session_id = _digest(f"demo:{month.name}:{user}:{index}").hex()
    return Session(month.begins + timedelta(milliseconds=milliseconds), user, session_id, "")


def _pinned(sessions: list[Session], month: Month) -> list[Session]:
    first = sessions[0]._replace(started_at=month.begins)
    last = sessions[-1]._replace(started_at=month.ends - _MILLISECOND)
    return [first, *sessions[1:-1], last]


def _with_channels(sessions: Sequence[Session]) -> list[Session]:
    """Return the sessions in another order, each channel with exactly its number of them."""
    shuffled = sorted(sessions, key=lambda session: _hashed(f"ch:{session.session_id}"))
    channels = [channel for channel, number in SESSIONS_BY_CHANNEL.items() for _ in range(number)]
    return [Session(*session[:3], channel) for session, channel in zip(shuffled, channels, strict=True)]


def _hashed(text: str) -> int:
    return int.from_bytes(_digest(text), "big")


def _digest(text: str) -> bytes:
    return hashlib.md5(text.encode(), usedforsecurity=False).digest()
