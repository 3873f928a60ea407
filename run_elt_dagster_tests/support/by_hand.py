"""What tests of `run-elt publish` share: the run whose candidate is kept, and another person who publishes it at the same time."""

from collections.abc import Callable

from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster.publish.table_run import State
from run_elt_dagster.snowflake.runner import Patience
from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.embedded import Account

RUN = "8f3a01c2-1111-4222-8333-444455556666"
PATIENCE = Patience(retry_seconds=(0, 0, 0), wait_seconds=0.2, poll_seconds=0.02)


def overtaken_in_its_exchange(account: Account, publish: Callable[[], object]) -> Callable[[State], None]:
    """Return what lets another person publish as a command enters its exchange.

    The other command ends before it drops the candidate, so the first one still finds it.

    Args:
        account: Where both publish.
        publish: Publishes as the other person.
    """

    def keeps_the_candidate(event: StatementEvent) -> None:
        if event.phase == "before" and event.sql.startswith("DROP TABLE"):
            raise SqlError("refused", errno=3001, sqlstate="42501")

    def entered(state: State) -> None:
        if state is State.EXCHANGE:
            with account.hooked(keeps_the_candidate):
                publish()

    return entered
