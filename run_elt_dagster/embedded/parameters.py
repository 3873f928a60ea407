"""Session and statement parameters: those with an effect here, those without one on values, and no others.

https://docs.snowflake.com/en/sql-reference/parameters
"""

from collections.abc import Mapping

from run_elt_dagster.dialect.errors import unsupported

# STATEMENT_TIMEOUT_IN_SECONDS ends a statement; the others matter to sessions with transactions and a history.
_IN_EFFECT = frozenset(
    {"AUTOCOMMIT", "LOCK_TIMEOUT", "QUERY_TAG", "STATEMENT_TIMEOUT_IN_SECONDS", "TRANSACTION_ABORT_ON_ERROR"}
)
# No value depends on them: every result is new, and every session sees what was committed.
_WITHOUT_EFFECT = frozenset({"ABORT_DETACHED_QUERY", "READ_CONSISTENCY_MODE", "USE_CACHED_RESULT"})
# What only the connector reads. The binding of timestamps is not among it.
_OF_THE_CLIENT = "CLIENT_"
_BINDING = "CLIENT_TIMESTAMP_TYPE_MAPPING"
# What holds here whatever is set; saying so is no error.
_FIXED: Mapping[str, frozenset[str]] = {
    "ERROR_ON_NONDETERMINISTIC_MERGE": frozenset({"TRUE"}),
    "QUOTED_IDENTIFIERS_IGNORE_CASE": frozenset({"FALSE"}),
    "TIMEZONE": frozenset({"UTC", "ETC/UTC"}),
    "TIMESTAMP_TYPE_MAPPING": frozenset({"TIMESTAMP_NTZ"}),
    "WEEK_OF_YEAR_POLICY": frozenset({"0"}),
    "WEEK_START": frozenset({"0"}),
}


def check_parameters(parameters: Mapping[str, str | None]) -> None:
    """Refuse parameters that would have an effect on an account, and none here (000002).

    They are values by name in upper case, None for one that is unset.
    """
    for name, value in parameters.items():
        known = name in _IN_EFFECT | _WITHOUT_EFFECT or (name.startswith(_OF_THE_CLIENT) and name != _BINDING)
        # Without a setting the account's own would hold, and nobody knows it here.
        fixed = value is not None and value.upper() in _FIXED.get(name, ())
        if not known and not fixed:
            raise unsupported("apply this session parameter", name if value is None else f"{name} = {value!r}")
