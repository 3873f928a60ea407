"""Connections that wait for their next user, with a stand-in for a connection: no file and no server."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from run_elt_dagster.settings import keeps_storage_connections
from run_elt_dagster.storage.idle import IdleConnections


class Connection:
    """What can be kept."""

    is_spoiled = False

    def __init__(self, *, is_there: bool = True) -> None:
        self.is_there, self.is_closed = is_there, False
        self.users = threading.Semaphore()

    def is_whole(self) -> bool:
        return self.is_there and not self.is_closed

    def close_now(self) -> None:
        self.is_closed = True


def test_connection_given_back_last_is_taken_first_and_once() -> None:
    idle, first, last, other = IdleConnections(), Connection(), Connection(), Connection()
    for key, connection in (("a", first), ("a", last), ("b", other)):
        idle.give(key, connection)
    assert [idle.take("a"), idle.take("a"), idle.take("a"), idle.take("b")] == [last, first, None, other]


def test_oldest_beyond_the_limit_is_closed() -> None:
    idle, connections = IdleConnections(limit=2), [Connection() for _ in range(5)]
    for number, connection in enumerate(connections):
        idle.give(number, connection)
    assert [connection.is_closed for connection in connections] == [True, True, True, False, False]


def test_connection_that_waited_too_long_is_closed_whoever_comes_next() -> None:
    now = 0.0
    idle, early, late = IdleConnections(seconds=60, clock=lambda: now), Connection(), Connection()
    idle.give("a", early)
    now = 60.0
    idle.give("b", late)
    assert not early.is_closed
    now = 60.1
    assert idle.take("c") is None
    assert (early.is_closed, late.is_closed, len(idle)) == (True, False, 1)


def test_broken_connection_is_closed_and_not_taken() -> None:
    idle, whole, broken = IdleConnections(), Connection(), Connection()
    idle.give("a", whole)
    idle.give("a", broken)
    broken.is_there = False
    assert idle.take("a") is whole
    assert broken.is_closed


def test_threads_never_share_a_connection_and_open_no_more_than_one_each() -> None:
    idle, opened = IdleConnections(), []

    def use(_: int) -> bool:
        connection = idle.take("a")
        if connection is None:
            opened.append(connection := Connection())
        is_alone = connection.users.acquire(blocking=False)
        connection.users.release()
        idle.give("a", connection)
        return is_alone

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(use, range(4000)))
    assert len(opened) <= 8


@pytest.mark.parametrize(
    ("value", "kept"), [("", True), ("true", True), ("false", False), ("0", False), ("perhaps", False)]
)
def test_connections_are_kept_unless_the_setting_says_otherwise_or_nothing_clear(value: str, kept: bool) -> None:
    wrong_elsewhere = {"RUN_ELT_LOST_AFTER_SECONDS": "soon"}
    assert keeps_storage_connections({"RUN_ELT_KEEP_STORAGE_CONNECTIONS": value, **wrong_elsewhere}) is kept
