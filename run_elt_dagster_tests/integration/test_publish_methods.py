"""Each way of publishing sends these statements and no other, the first time and again."""

import json
import re

import pytest

from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.local_server import LocalServer, mau

X, OLD_TEMP, TEMP = (f'"RUN_ELT"."ANALYTICS"."{name}"' for name in ("MAU", "TEMP_MAU__0000000A", "TEMP_MAU__0000000B"))

FIRST = {
    "clone": [f"CREATE TABLE {X} CLONE {OLD_TEMP}"],
    "swap": [f"ALTER TABLE {OLD_TEMP} RENAME TO {X}"],
    "overwrite": [f"CREATE TABLE {X} CLONE {OLD_TEMP}"],
}
AGAIN = {
    "clone": [f"CREATE OR REPLACE TABLE {X} CLONE {TEMP} COPY GRANTS COPY TAGS"],
    "swap": [
        f"SHOW GRANTS ON TABLE {X}",
        f"SHOW GRANTS ON TABLE {TEMP}",
        f'GRANT SELECT ON TABLE {TEMP} TO ROLE "READER"',
        f"SHOW GRANTS ON TABLE {TEMP}",
        f"ALTER TABLE {X} SWAP WITH {TEMP}",
    ],
    "overwrite": [
        f"COMMENT ON TABLE {X} IS '[run_elt publishing 0000000B at T]'",
        f'INSERT OVERWRITE INTO {X} ("N", "V") SELECT "N", "V" FROM {TEMP}',
        f"COMMENT ON TABLE {X} IS '[run_elt run 0000000B at T]'",
        f"ALTER TABLE {X} MODIFY COLUMN \"N\" COMMENT 'the n'",
    ],
}


@pytest.mark.parametrize("publish", FIRST)
def test_way_of_publishing_sends_its_statements(local_server: LocalServer, publish: str) -> None:
    sent: list[str] = []

    def note(event: StatementEvent) -> None:
        tag = json.loads(event.statement.parameter("QUERY_TAG", "") or "{}")
        if event.phase == "before" and tag.get("stage") == "publish":
            sent.append(re.sub(r" at [\dT:.-]+Z\]", " at T]", event.sql))

    more = "columns: {n: {type: int, description: the n}, v: int}"
    local_server.reader.sql("create role reader")
    with local_server.account.hooked(note):
        assert local_server.run("0000000A", mau(3, 1, publish=publish, more=more)).published
        assert sent == FIRST[publish]
        sent.clear()
        local_server.reader.sql("grant select on table analytics.mau to role reader")
        assert local_server.run("0000000B", mau(5, 2, publish=publish, more=more)).published
    assert sent == AGAIN[publish]
