"""Who may read a table, and how another one gets the same grants: all that replaces an object by another needs it."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from run_elt_dagster.model.names import Relation, quote_identifier
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.publish.guards import PublishRefusedError, Refusal
from run_elt_dagster.snowflake.runner import StatementRunner
from run_elt_dagster.snowflake.session import Answer, StatementError

_GRANTEE_PART = re.compile(r'"(?:[^"]|"")+"|[^."]+')
_GRANTEE = re.compile(rf"(?:{_GRANTEE_PART.pattern})(?:\.(?:{_GRANTEE_PART.pattern}))*")

# Sends a statement by a runner, with the tag of whoever asks.
Send = Callable[[str, StatementRunner], Answer]


@dataclass(frozen=True)
class Grant:
    """Privileges on a table that one grantee has.

    Attributes:
        privilege: As in `SELECT`.
        grantee_kind: `ROLE`, `DATABASE_ROLE` or `SHARE`.
        grantee: Its stored name, with its database where it belongs to one.
        grant_option: Whether the grantee may pass it on.
    """

    privilege: str
    grantee_kind: str
    grantee: tuple[str, ...]
    grant_option: bool = False


def show_grants_sql(relation: Relation) -> str:
    """Return the statement that lists who has which privilege: https://docs.snowflake.com/en/sql-reference/sql/show-grants."""
    return f"SHOW GRANTS ON TABLE {relation.sql}"


def grants_of(rows: Iterable[Sequence[object]], relation: Relation) -> frozenset[Grant]:
    """Return the grants in the answer to `show_grants_sql`, ownership left out.

    Raises:
        PublishRefusedError: A grant is of a kind that cannot be carried over.
    """
    found: set[Grant] = set()
    for row in rows:
        _, privilege, _, _, kind, grantee, option, *_ = (str(value) for value in row)
        if privilege == "OWNERSHIP":
            continue
        if kind not in ("ROLE", "DATABASE_ROLE", "SHARE"):
            raise PublishRefusedError(
                Refusal(
                    "publish: swap carries over grants to roles, database roles and shares",
                    f"{privilege} to {kind} {grantee} on {relation}",
                    "Use publish: clone to keep every grant.",
                    consequence="It would be lost.",
                    reason=Reason.GRANTS,
                )
            )
        name = tuple(_grantee_parts(grantee))
        if kind == "DATABASE_ROLE" and len(name) == 1:
            # A database role has privileges in its own database only.
            name = (relation.database, *name)
        found.add(Grant(privilege, kind, name[-1:] if kind == "SHARE" else name, option.lower() == "true"))
    return frozenset(found)


def _grantee_parts(grantee: str) -> list[str]:
    """Split a name that SHOW GRANTS gives: quoted only where it holds a dot."""
    if not _GRANTEE.fullmatch(grantee):
        # Its quotes belong to the name.
        return [grantee]
    parts = _GRANTEE_PART.findall(grantee)
    return [part[1:-1].replace('""', '"') if part.startswith('"') else part for part in parts]


def grant_changes_sql(relation: Relation, *, present: frozenset[Grant], wanted: frozenset[Grant]) -> list[str]:
    """Return the statements that give a table exactly the wanted grants; each is safe to repeat.

    https://docs.snowflake.com/en/sql-reference/sql/grant-privilege
    """
    revokes = [
        f"REVOKE {grant.privilege} ON TABLE {relation.sql} FROM {_grantee_sql(grant)}" for grant in present - wanted
    ]
    grants = [
        f"GRANT {grant.privilege} ON TABLE {relation.sql} TO {_grantee_sql(grant)}"
        + (" WITH GRANT OPTION" if grant.grant_option else "")
        for grant in wanted - present
    ]
    # Revoking takes away what differs in its grant option alone, so it comes first.
    return sorted(revokes) + sorted(grants)


def carry_grants_over(send: Send, runner: StatementRunner, *, giver: Relation, taker: Relation) -> str:
    """Give a table exactly the grants of another one. Safe to repeat.

    Where Snowflake says that a statement failed, a session of its own looks whether it took effect.

    Args:
        send: Sends a statement.
        runner: What sends it; its `fresh` opens the other session.
        giver: Whose grants.
        taker: What gets them.

    Returns:
        What differs all the same, in words; empty if nothing does.

    Raises:
        StatementError: A statement failed, and took no effect.
        PublishRefusedError: A grant is of a kind that cannot be carried over.
    """
    wanted, present = _grants_on(giver, send, runner), _grants_on(taker, send, runner)
    changes = grant_changes_sql(taker, present=present, wanted=wanted)
    for statement in changes:
        try:
            send(statement, runner)
        except StatementError:
            with runner.fresh() as fresh:
                seen = {"wanted": _grants_on(giver, send, fresh), "present": _grants_on(taker, send, fresh)}
            if statement in grant_changes_sql(taker, **seen):
                raise
    if changes:
        present = _grants_on(taker, send, runner)
    return ", ".join(sorted(f"{grant.privilege} to {'.'.join(grant.grantee)}" for grant in wanted ^ present))


def _grants_on(relation: Relation, send: Send, runner: StatementRunner) -> frozenset[Grant]:
    return grants_of(send(show_grants_sql(relation), runner).rows, relation)


def _grantee_sql(grant: Grant) -> str:
    return f"{grant.grantee_kind.replace('_', ' ')} {'.'.join(quote_identifier(part) for part in grant.grantee)}"
