"""What the catalogue is asked along with the scan of a candidate, and what its two arrays mean."""

import json
from datetime import UTC, datetime

import pytest

from run_elt_dagster.audit.catalogue import Column, Inspection, inspection_columns_sql, inspection_of
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.production import TableVersion

MAU, CANDIDATE = (Relation("PROD", "it's", name) for name in ("MAU", "TEMP_MAU__8F3A01C2"))


def test_tables_and_columns_are_asked_for_by_their_exact_names() -> None:
    tables, columns = inspection_columns_sql(MAU, CANDIDATE, prefix="TEMP_MAU__")
    assert tables == (
        "(SELECT ARRAY_AGG(OBJECT_CONSTRUCT('name', TABLE_NAME, 'rows', ROW_COUNT, 'bytes', BYTES, 'comment', COMMENT, "
        "'created', DATE_PART(EPOCH_MICROSECOND, CREATED), 'now', DATE_PART(EPOCH_MICROSECOND, CURRENT_TIMESTAMP()))) "
        """FROM "PROD".INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = 'it''s' AND (TABLE_NAME = 'MAU' """
        "OR LEFT(TABLE_NAME, 10) = 'TEMP_MAU__'))"
    )
    assert columns == (
        "(SELECT ARRAY_AGG(OBJECT_CONSTRUCT('table', TABLE_NAME, 'position', ORDINAL_POSITION, 'name', COLUMN_NAME, "
        "'type', DATA_TYPE, 'nullable', IS_NULLABLE, 'precision', NUMERIC_PRECISION, 'scale', NUMERIC_SCALE, 'length', CHARACTER_MAXIMUM_LENGTH, "
        "'digits', DATETIME_PRECISION)) "
        """FROM "PROD".INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = 'it''s' """
        "AND TABLE_NAME IN ('MAU', 'TEMP_MAU__8F3A01C2'))"
    )


TABLES = [
    {"name": CANDIDATE.name, "rows": 5, "comment": "of this run", "now": "1764374400000001"},
    {"name": "MAU", "rows": "7"},
    {"name": "TEMP_MAU__00000000"},
]
# As they come: in no order. OBJECT_CONSTRUCT leaves out what is NULL.
COLUMNS = [
    {"table": "MAU", "position": 10, "name": "B", "type": "TEXT", "length": 5},
    {"table": "MAU", "position": "9", "name": "A", "type": "NUMBER", "precision": 38, "scale": "0"},
    {"table": CANDIDATE.name, "position": 1, "name": "C", "type": "TIMESTAMP_NTZ", "digits": 3},
    {"table": "ANOTHER", "position": 1, "name": "D", "type": "DATE"},
]


@pytest.mark.parametrize("as_text", [False, True])
def test_inspection_is_all_that_the_two_arrays_say(as_text: bool) -> None:
    tables, columns = (json.dumps(each) if as_text else each for each in (TABLES, COLUMNS))
    assert inspection_of(tables, columns, target=MAU, candidate=CANDIDATE) == Inspection(
        TableVersion("MAU", 7),
        (TableVersion(CANDIDATE.name, 5, "of this run"), TableVersion("TEMP_MAU__00000000")),
        (Column("A", "NUMBER", 38, 0), Column("B", "TEXT", length=5)),
        (Column("C", "TIMESTAMP_NTZ", digits=3),),
        asked_at=datetime(2025, 11, 29, microsecond=1, tzinfo=UTC),
    )


def test_inspection_of_an_empty_schema_finds_nothing() -> None:
    assert inspection_of(None, None, target=MAU, candidate=CANDIDATE) == Inspection()
