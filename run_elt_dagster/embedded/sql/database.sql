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

-- The rows that an object had until a statement changed them; without a name where they were not kept.
CREATE TABLE IF NOT EXISTS {hidden}.embedded_past (
    object_id VARCHAR, kept_schema VARCHAR, kept_name VARCHAR, query_id VARCHAR, until TIMESTAMPTZ
);
-- When its rows or columns changed; for what was made before this was noted, no earlier than it may have been.
ALTER TABLE {hidden}.embedded_objects ADD COLUMN IF NOT EXISTS changed_on TIMESTAMPTZ;
UPDATE {hidden}.embedded_objects SET changed_on = last_altered WHERE changed_on IS NULL;

CREATE TABLE IF NOT EXISTS {hidden}.embedded_facts (fact VARCHAR);

-- INFORMATION_SCHEMA of one database out of its register, in the place of fakesnow's views; safe to repeat.
-- https://docs.snowflake.com/en/sql-reference/info-schema/tables
CREATE OR REPLACE VIEW {hidden}._fs_columns AS
SELECT * FROM _fs_global.{hidden_schema}._fs_columns WHERE "TABLE_CATALOG" = {database};

-- Dropped tables too. The row count is exact, as on Snowflake. The instants are Snowflake's TIMESTAMP_LTZ, in UTC.
CREATE OR REPLACE VIEW {hidden}.embedded_relations AS
SELECT
    relations.database_name AS "TABLE_CATALOG",
    relations.schema_name AS "TABLE_SCHEMA",
    coalesce(objects.dropped_name, relations.name) AS "TABLE_NAME",
    coalesce(objects.owner, '{owner}') AS "TABLE_OWNER",
    CASE WHEN objects.kind IN ('EXTERNAL TABLE', 'MATERIALIZED VIEW') THEN objects.kind ELSE relations.kind END AS "TABLE_TYPE",
    CASE WHEN relations.kind = 'VIEW' THEN NULL WHEN objects.is_transient THEN 'YES' ELSE 'NO' END AS "IS_TRANSIENT",
    NULL::VARCHAR AS "CLUSTERING_KEY",
    coalesce(objects.row_count, relations.row_count) AS "ROW_COUNT",
    CASE WHEN relations.kind = 'VIEW' THEN NULL ELSE 0 END AS "BYTES",
    CASE WHEN relations.kind = 'VIEW' THEN NULL ELSE 1 END AS "RETENTION_TIME",
    NULL::VARCHAR AS "SELF_REFERENCING_COLUMN_NAME",
    NULL::VARCHAR AS "REFERENCE_GENERATION",
    NULL::VARCHAR AS "USER_DEFINED_TYPE_CATALOG",
    NULL::VARCHAR AS "USER_DEFINED_TYPE_SCHEMA",
    NULL::VARCHAR AS "USER_DEFINED_TYPE_NAME",
    CASE WHEN relations.kind = 'VIEW' THEN 'NO' ELSE 'YES' END AS "IS_INSERTABLE_INTO",
    'YES' AS "IS_TYPED",
    NULL::VARCHAR AS "COMMIT_ACTION",
    coalesce(objects.created_on, to_timestamp(0)) AS "CREATED",
    coalesce(objects.last_altered, to_timestamp(0)) AS "LAST_ALTERED",
    coalesce(objects.last_ddl, to_timestamp(0)) AS "LAST_DDL",
    coalesce(objects.owner, '{owner}') AS "LAST_DDL_BY",
    'NO' AS "AUTO_CLUSTERING_ON",
    coalesce(objects.comment, relations.comment) AS "COMMENT",
    'NO' AS "IS_TEMPORARY",
    CASE objects.kind WHEN 'ICEBERG TABLE' THEN 'YES' ELSE 'NO' END AS "IS_ICEBERG",
    CASE objects.kind WHEN 'DYNAMIC TABLE' THEN 'YES' ELSE 'NO' END AS "IS_DYNAMIC",
    'NO' AS "IS_IMMUTABLE",
    'NO' AS "IS_HYBRID",
    objects.dropped_on AS "DROPPED_ON"
FROM (
    SELECT database_name, schema_name, table_name AS name, 'BASE TABLE' AS kind, estimated_size AS row_count, NULL AS comment
    FROM duckdb_tables()
    UNION ALL
    SELECT database_name, schema_name, view_name, 'VIEW', NULL, comment FROM duckdb_views() WHERE NOT internal
) AS relations
LEFT JOIN {hidden}.embedded_objects AS objects
    ON relations.kind = 'BASE TABLE'
    AND objects.table_schema = relations.schema_name
    AND objects.table_name = relations.name
WHERE relations.database_name = {database} AND relations.schema_name NOT IN ('{hidden_schema}', 'main')
    AND (objects.dropped_on > now() - INTERVAL 1 DAY OR NOT starts_with(relations.name, '{kept}'));

CREATE OR REPLACE VIEW {hidden}._fs_tables AS
SELECT * EXCLUDE (DROPPED_ON) FROM {hidden}.embedded_relations WHERE "DROPPED_ON" IS NULL;
