-- What Snowflake knows about a table besides its rows; safe to repeat.
-- Without keys: DuckDB refuses to delete and insert the same key in one transaction, which replacing a table does.
CREATE SCHEMA IF NOT EXISTS {hidden};

CREATE TABLE IF NOT EXISTS {hidden}.embedded_objects (
    object_id VARCHAR,
    table_schema VARCHAR,
    table_name VARCHAR,
    owner VARCHAR,
    comment VARCHAR,
    is_transient BOOLEAN,
    created_on TIMESTAMPTZ,
    last_altered TIMESTAMPTZ,
    last_ddl TIMESTAMPTZ,
    row_count BIGINT
);
-- The name that a dropped or replaced table had, and since when it is kept under another one.
ALTER TABLE {hidden}.embedded_objects ADD COLUMN IF NOT EXISTS dropped_name VARCHAR;
ALTER TABLE {hidden}.embedded_objects ADD COLUMN IF NOT EXISTS dropped_on TIMESTAMPTZ;
-- Nothing for an ordinary table.
ALTER TABLE {hidden}.embedded_objects ADD COLUMN IF NOT EXISTS kind VARCHAR;

CREATE TABLE IF NOT EXISTS {hidden}.embedded_facts (fact VARCHAR);
