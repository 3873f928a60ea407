"""The lock of a group: a table that exists while a run exchanges the group's tables. Its comment says which run, and which tables.

Snowflake creates a table once: of two runs that want to, one gets 002002. And what is noted there outlives the run, so another one can
end what it has begun. https://docs.snowflake.com/en/sql-reference/sql/create-table
"""

import getpass
import os
import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from run_elt_dagster.model.names import Relation, quote_identifier, quote_literal
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.model.table import GROUP_LOCK_PREFIX, AnalyticsTable
from run_elt_dagster.publish.guards import PublishRefusedError, Refusal, TargetInventory
from run_elt_dagster.publish.statements import comment_sql, drop_sql
from run_elt_dagster.snowflake.runner import StatementRunner
from run_elt_dagster.snowflake.session import StatementError

Act = Literal["exchanges", "writes", "rolls back"]
_NOTE = re.compile(
    r"\[run_elt group (\S+) run (\S+) at (\S+)(?: by (\S+) since (\S+))?(?: ended by (\S+))? "
    r"(exchanges|writes|rolls back) ([^\]]+)\]"
)
_ACTS: Mapping[str, Act] = {"exchanges": "exchanges", "writes": "writes", "rolls back": "rolls back"}
# A command takes seconds, or minutes where rows are written. Nobody can ask whether one of another machine still runs.
COMMAND_HOURS = 1


@dataclass(frozen=True)
class GroupNote:
    """What the comment of a lock says.

    Attributes:
        group: Name of the group.
        run_id: The run of the rows that readers see then, or that are taken from them. All tables have passed their audits.
        at: The snapshot of these rows, as their markers have it.
        tables: `schema.table` of each, as its file is named.
        act: What is done to them. `writes`: their rows are exchanged in one transaction.
        by: Who does it by hand, as `operator` returns it; empty for the run itself.
        since: When that began, by Snowflake's clock; empty for the run itself.
        ended_by: Who has taken the run for dead, and ends its exchange; empty before. A run that goes on all the same finds it there.
    """

    group: str
    run_id: str
    at: str
    tables: tuple[str, ...]
    act: Act = "exchanges"
    by: str = ""
    since: str = ""
    ended_by: str = ""

    @property
    def exchange(self) -> "GroupNote":
        """It, as who began the exchange has written it."""
        return replace(self, ended_by="")

    @property
    def is_rollback(self) -> bool:
        """Whether a person rolls the group back."""
        return self.act == "rolls back"

    @property
    def began_at(self) -> datetime | None:
        """When a command began, aware, UTC; None for the run itself."""
        return datetime.fromisoformat(self.since).astimezone(UTC) if self.since else None

    @property
    def is_of_one(self) -> bool:
        """Whether a person rolls one table of it back by itself."""
        return self.is_rollback and len(self.tables) == 1

    @property
    def holder(self) -> str:
        """Who has the lock, in words."""
        if not self.by:
            return f"run {self.run_id}"
        command = f"run-elt {'rollback' if self.is_rollback else 'publish'} --group {self.group}"
        if self.is_of_one:
            command = f"run-elt rollback {self.tables[0]}"
        return f"{command} of {self.by}, begun {self.since[:16].replace('T', ' ')} UTC,"

    def is_over(self, is_live: Callable[[str], bool], *, now: str = "") -> bool:
        """Return whether nobody goes on with it.

        Args:
            is_live: Whether the run whose id starts with these characters goes on.
            now: Snowflake's time, as markers have it; the clock of this machine by default.
        """
        if not self.by:
            return not is_live(self.run_id)
        moment = datetime.fromisoformat(now) if now else datetime.now(UTC)
        return has_ended_here(self.by) or moment - datetime.fromisoformat(self.since) >= timedelta(hours=COMMAND_HOURS)

    def __str__(self) -> str:
        """Return it as the comment has it."""
        by_hand = f" by {self.by} since {self.since}" if self.by else ""
        ended = f" ended by {_word(self.ended_by)}" if self.ended_by else ""
        run = f"run {self.run_id} at {self.at}{by_hand}{ended}"
        return f"[run_elt group {self.group} {run} {self.act} {' '.join(self.tables)}]"


def operator() -> str:
    """Return who gives a command, as the note in the lock has it: person, machine and process."""
    try:
        person = getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a user without a name.
        person = "unknown"
    return f"{_word(person)}@{_word(socket.gethostname())}:{os.getpid()}"


def _word(text: str) -> str:
    """Return a name without what would end a note."""
    return re.sub(r"[^\w.+-]", "_", text)


def has_ended_here(who: str) -> bool:
    """Return whether a command ran on this machine and is over. One of another machine may go on."""
    machine, _, process = who.rpartition(":")
    if machine != operator().rpartition(":")[0] or not process.isdigit():
        return False
    if int(process) == os.getpid():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def note_in(comment: str | None) -> GroupNote | None:
    """Return what a comment says; None if it is none of a lock."""
    found = _NOTE.search(comment or "")
    if found is None:
        return None
    group, run_id, at, by, since, ended_by, found_act, tables = found.groups()
    names = tuple(tables.split(" "))
    return GroupNote(group, run_id, at, names, _ACTS[found_act], by or "", since or "", ended_by or "")


def lock_of(group: str, tables: Sequence[AnalyticsTable], *, database: str) -> Relation:
    """Return the lock of a group: it stands in the schema of the first of its tables."""
    schema = min(table.stored_schema for table in tables)
    return Relation(database, schema, lock_name(group))


def lock_name(group: str) -> str:
    """Return the stored name of the lock of a group."""
    return f"{GROUP_LOCK_PREFIX}{group.upper()}"


def create_lock_sql(lock: Relation, note: GroupNote) -> str:
    """Return the statement that takes a lock. It fails where another run has it."""
    return f"CREATE TRANSIENT TABLE {lock.sql} (RUN_ID VARCHAR) COMMENT = {quote_literal(str(note))}"


def holder_sql(lock: Relation) -> str:
    """Return the query for the comment of a lock; no row where nobody has it."""
    return (
        f"SELECT COMMENT FROM {quote_identifier(lock.database)}.INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = "
        f"{quote_literal(lock.schema)} AND TABLE_NAME = {quote_literal(lock.name)}"
    )


def locks_in(inventory: TargetInventory, *, database: str) -> Iterable[tuple[Relation, GroupNote]]:
    """Yield the locks that stand in the schemas of an inventory."""
    for (schema, name), found in inventory.tables.items():
        if name.startswith(GROUP_LOCK_PREFIX) and (note := note_in(found.comment)) is not None:
            yield Relation(database, schema, name), note


class GroupLock:
    """The lock of one group, for one run or one rollback.

    Args:
        runner: Sends the statements, whether the run is interrupted or not.
        relation: The lock.
        note: What its comment says.
    """

    def __init__(self, runner: StatementRunner, relation: Relation, note: GroupNote) -> None:
        self._runner = runner
        self.relation, self.note = relation, note
        self._tag = {"group": note.group, "stage": "rollback" if note.is_rollback else "publish"}

    def take(self) -> GroupNote | None:
        """Take the lock.

        Returns:
            The run that has it, None if this one has it now.

        Raises:
            StatementError: It could not be taken, and nobody has it.
        """
        try:
            self._runner.send_once(create_lock_sql(self.relation, self.note), tag=self._tag)
        except StatementError:
            holder = self.holder()
            if holder is None:
                raise
            return None if holder == self.note else holder
        return None

    def holder(self, runner: StatementRunner | None = None) -> GroupNote | None:
        """Return which run has the lock; None if none has.

        Args:
            runner: Asks; by default, a session of its own.

        Raises:
            StatementError: Snowflake does not say.
        """
        if runner is None:
            with self._runner.fresh() as fresh:
                return self.holder(fresh)
        rows = runner.send(holder_sql(self.relation), tag=self._tag).rows
        return note_in(str(rows[0][0])) if rows else None

    def require(self, runner: StatementRunner | None = None) -> None:
        """Require that nobody has taken this run for dead: what it publishes then, another one may take back a moment later.

        Args:
            runner: Asks; by default, that of the lock.

        Raises:
            PublishRefusedError: Somebody has.
            StatementError: Snowflake does not say.
        """
        holder = self.holder(runner or self._runner)
        if holder != self.note:
            raise PublishRefusedError(self._lost(holder))

    def take_over(self, by: str) -> None:
        """Write into the lock who ends the exchange that the run had begun. From then on, the run itself publishes nothing more.

        Safe to repeat. Where the lock is gone or another run has it, nothing is written.

        Args:
            by: The run that ends it, or what else does.

        Raises:
            StatementError: It could not be written.
        """
        ended = replace(self.note, ended_by=by)
        holder = self.holder()
        if holder is not None and holder != ended and holder.exchange == self.note.exchange:
            self._runner.send(comment_sql(self.relation, str(ended)), tag=self._tag)
        self.note = ended

    def release(self, of: GroupNote | None = None) -> bool:
        """Give the lock back where it is still held: also after a lost answer, and not that of somebody else.

        Args:
            of: Who has it; this run or command by default.

        Returns:
            Whether it was still held.

        Raises:
            StatementError: Snowflake did not report success.
        """
        note = of or self.note
        was_held: bool | None = None
        try:
            was_held = self.holder(self._runner) == note
            self._drop(self._runner, is_held=was_held)
        except StatementError:
            with self._runner.fresh() as fresh:
                is_held = self.holder(fresh) == note
                self._drop(fresh, is_held=is_held)
            return is_held if was_held is None else was_held
        return was_held

    def _drop(self, runner: StatementRunner, *, is_held: bool) -> None:
        if is_held:
            runner.send_once(drop_sql(self.relation), tag=self._tag)

    def lost(self) -> Refusal:
        """Return why a run that does not have its lock any more is not said to be published.

        Raises:
            StatementError: Snowflake does not say who has it.
        """
        return self._lost(self.holder())

    def _lost(self, holder: GroupNote | None) -> Refusal:
        note, group = self.note, self.note.group
        got = f"no {self.relation} any more"
        if holder is not None:
            is_ended = holder.exchange == note.exchange
            got = (
                f"it ended by {holder.ended_by}, which took it for dead" if is_ended else f"{holder.holder} that has it"
            )
        return Refusal(
            f"{note.holder} requires the lock of publish_group {group} until its tables are published",
            got,
            "Look why it was taken for dead: see the run in Dagster. Then materialize all tables of the group again.",
            reason=Reason.TARGET_CHANGES,
        )
