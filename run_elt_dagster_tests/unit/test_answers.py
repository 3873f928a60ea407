import re
import threading
import time

import pytest

from run_elt_dagster.settings import Settings
from run_elt_dagster.snowflake.answers import Answers, NoAnswerError
from run_elt_dagster.variables import SettingsError


def waiting(answers: Answers, *names: str) -> threading.Event:
    """Make requests that wait for an event, and return it."""
    answer = threading.Event()
    for name in names:
        threading.Thread(target=answers.ask, args=(name, lambda: answer.wait(30)), daemon=True).start()
    deadline = time.monotonic() + 30
    while len(answers.silent(0)) < len(names) and time.monotonic() < deadline:
        time.sleep(0.01)
    return answer


def test_request_gives_its_result_and_raises_its_error() -> None:
    answers = Answers()
    assert answers.ask("a question", lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        answers.ask("a question", lambda: 1 / 0)


def test_log_names_what_is_waited_for_once_and_says_when_it_goes_on() -> None:
    answers, told, first = Answers(limit_seconds=900), list[str](), threading.Event()

    def tell(text: str) -> None:
        told.append(text)
        first.set()

    # All have begun to wait before the first look.
    answer = waiting(answers, *(f"build of a.t{number}" for number in range(7)))
    time.sleep(0.2)
    with answers.reported(tell, after_seconds=0.1, again_seconds=60):
        assert first.wait(30)
        answer.set()
    assert len(told) == 2
    assert len(re.findall(r"build of a\.t\d since \d\d:\d\d:\d\d UTC", told[0])) == 5
    assert told[0].endswith(
        "and 2 more. A request without an answer fails after 15 min (RUN_ELT_ANSWER_TIMEOUT_SECONDS)."
    )
    assert told[1].startswith("Snowflake has answered after")


def test_log_says_again_what_is_waited_for() -> None:
    answers, told, third = Answers(), list[str](), threading.Event()

    def tell(text: str) -> None:
        told.append(text)
        if len(told) == 3:
            third.set()

    with answers.reported(tell, after_seconds=0.05, again_seconds=0.1):
        answer = waiting(answers, "publish of a.t")
        assert third.wait(30)
        answer.set()
    assert all(text.startswith("Waiting for Snowflake's answer") for text in told[:3])


def test_nothing_is_sent_when_nobody_waits_any_longer() -> None:
    answers, begun, ended = Answers(), threading.Event(), list[BaseException]()
    go_on = threading.Event()

    def request() -> None:
        # What the connector does: a request, its pauses, a repetition, and the next part.
        pauses = answers.pauses()
        next(pauses)
        begun.set()
        go_on.wait(30)
        for step in (lambda: next(pauses), answers.pauses):
            try:
                step()
            except NoAnswerError as error:
                ended.append(error)

    def wait() -> None:
        with pytest.raises(NoAnswerError, match="the run ended while Snowflake had not answered"):
            answers.ask("publish of a.t", request)

    thread = threading.Thread(target=wait)
    thread.start()
    assert begun.wait(30)
    answers.give_up()
    thread.join(30)
    assert not thread.is_alive()
    go_on.set()
    deadline = time.monotonic() + 30
    while len(ended) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(ended) == 2
    with pytest.raises(NoAnswerError, match="was not sent"):
        answers.ask("another one", lambda: 1)


def test_result_that_comes_too_late_is_discarded() -> None:
    answers, go_on, discarded = Answers(limit_seconds=0.05), threading.Event(), threading.Event()

    def late() -> str:
        go_on.wait(30)
        return "a connection"

    with pytest.raises(NoAnswerError):
        answers.ask("signing in", late, discard=lambda _: discarded.set())
    go_on.set()
    assert discarded.wait(30)


def test_pauses_between_two_tries_grow_to_the_longest_and_are_never_none() -> None:
    pauses = Answers().pauses()
    taken = [next(pauses) for _ in range(50)]
    assert min(taken) >= 1
    assert max(taken) <= 16
    assert min(taken[10:]) >= 8


def test_limit_shorter_than_snowflake_takes_to_say_that_a_query_runs_is_refused() -> None:
    assert Settings.from_environment({}).answer_timeout_seconds == 900
    with pytest.raises(SettingsError, match="RUN_ELT_ANSWER_TIMEOUT_SECONDS requires a whole number from 60"):
        Settings.from_environment({"RUN_ELT_ANSWER_TIMEOUT_SECONDS": "45"})
