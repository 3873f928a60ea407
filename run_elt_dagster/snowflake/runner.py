"""Who sends statements, and how: tagged, stopped when a run is interrupted, again where that is safe."""

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from run_elt_dagster.model.past import Past
from run_elt_dagster.snowflake.session import (
    INTERNAL_ERROR,
    NO_PARAMETERS,
    Answer,
    ConnectorSession,
    Parameters,
    Session,
    StatementError,
)

# Snowflake's internal errors are worth one or two more tries; a network that fails, a third.
INTERNAL_ERROR_RETRIES = 2


class RunStoppedError(Exception):
    """The run was interrupted: no further statement is sent."""


def _never(_: str) -> bool:
    return False


@dataclass(frozen=True)
class RunContext:
    """Who sends statements.

    Attributes:
        run_id: Dagster's id of the run, or the name of a command that is no run. It names the candidates, and tags every query.
        job: Name of the job or of the command, for the tag.
        is_live: Whether the run whose id starts with these characters still runs; its candidates are never dropped.
        past: Returns what was published before; None where nobody knows.
    """

    run_id: str
    job: str = ""
    is_live: Callable[[str], bool] = _never
    past: Past | None = None


@dataclass(frozen=True)
class Patience:
    """How long is waited for what may pass.

    Attributes:
        retry_seconds: Pauses before a statement that failed for a transient reason is sent again.
        wait_seconds: How long a build waits for a newer one of the same table to be published or to fail.
        poll_seconds: How often it looks.
    """

    retry_seconds: tuple[float, ...] = (1, 4, 16)
    wait_seconds: float = 600
    poll_seconds: float = 2


# Nothing is sent again, and a lost session is not opened again.
NO_PATIENCE = Patience(retry_seconds=())


class StatementRunner:
    """Sends statements: stops when the run is interrupted, tries transient failures again.

    Attributes:
        run: Who sends them.
        patience: How long it waits.
    """

    def __init__(
        self, session: Session, run: RunContext, stop: threading.Event, *, patience: Patience | None = None
    ) -> None:
        self._session = session
        self.run = run
        self.patience = patience or Patience()
        self._stop = stop

    def send_once(self, sql: str, *, tag: Mapping[str, str]) -> Answer:
        """Send a statement that must not be repeated without looking first.

        Raises:
            StatementError: It failed.
            RunStoppedError: The run was interrupted before.
        """
        if self._stop.is_set():
            raise RunStoppedError(f"the run was interrupted before stage {tag['stage']}")
        tags = {"run_id": self.run.run_id, **tag, "job": self.run.job}
        return self._execute(sql, tags)

    def _execute(self, sql: str, tags: Mapping[str, str]) -> Answer:
        return self._session.execute(sql, tag=tags)

    def send(self, sql: str, *, tag: Mapping[str, str]) -> Answer:
        """Send a statement that is safe to repeat.

        Raises:
            StatementError: It failed for good.
            RunStoppedError: The run was interrupted before.
        """
        pauses, internal_errors = list(self.patience.retry_seconds), 0
        while True:
            try:
                return self.send_once(sql, tag=tag)
            except StatementError as error:
                internal_errors += error.errno == INTERNAL_ERROR
                if not error.transient or not pauses or internal_errors > INTERNAL_ERROR_RETRIES or self._stop.is_set():
                    raise
                self.wait(pauses.pop(0))
                self.reconnect(error)

    def unstoppable(self, run: RunContext | None = None) -> "StatementRunner":
        """Return a runner that an interruption of the run does not stop: for what must not end halfway.

        Args:
            run: Who its statements are from; None for the same run.
        """
        return StatementRunner(self._session, run or self.run, threading.Event(), patience=self.patience)

    @contextmanager
    def fresh(self, parameters: Parameters = NO_PARAMETERS) -> Generator["StatementRunner"]:
        """Open a runner whose session sees what every other one has committed.

        Args:
            parameters: What the session signs in with.

        Raises:
            StatementError: Signing in failed.
            RunStoppedError: The run was interrupted before.
        """
        if self._stop.is_set():
            raise RunStoppedError("the run was interrupted before it could look at production")
        with self._session.fresh(parameters) as session:
            yield StatementRunner(session, self.run, self._stop, patience=self.patience)

    def reconnect(self, error: StatementError) -> None:
        """Open a new session where the old one is lost.

        Raises:
            StatementError: Signing in failed; or the run was interrupted, and nothing more is asked.
        """
        if self._stop.is_set():
            raise error
        if error.lost_session:
            self._session.renew(error.session)

    def wait(self, seconds: float) -> None:
        """Wait, unless the run is interrupted.

        Raises:
            RunStoppedError: It was.
        """
        if self._stop.wait(seconds):
            raise RunStoppedError("the run was interrupted while it waited")


class BoundStatementRunner(StatementRunner):
    """Sends statements whose values are bound: they are no part of the text, and no value of theirs needs quotes.

    Args:
        session: Of a connection with `paramstyle="qmark"`, as `Snowflake.session` opens it.
        run: Who sends them.
        stop: Set where the run is interrupted.
        parameters: What stands for each `?`.
        patience: How long it waits.
    """

    def __init__(
        self,
        session: ConnectorSession,
        run: RunContext,
        stop: threading.Event,
        *,
        parameters: Sequence[str],
        patience: Patience | None = None,
    ) -> None:
        super().__init__(session, run, stop, patience=patience)
        self._binding, self._parameters = session, parameters

    def _execute(self, sql: str, tags: Mapping[str, str]) -> Answer:
        return self._binding.execute(sql, tag=tags, parameters=self._parameters)
