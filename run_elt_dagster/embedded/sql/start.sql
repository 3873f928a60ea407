-- INFORMATION_SCHEMA.COLUMNS of all databases as Snowflake fills it, in the place of fakesnow's view.
-- https://docs.snowflake.com/en/sql-reference/info-schema/columns
-- DuckDB has no length of a VARCHAR(n): it is read from the check that enforces it. Without a length VARCHAR and BINARY hold
-- 16,777,216 characters and 8,388,608 bytes: https://docs.snowflake.com/en/sql-reference/data-types-text
CREATE OR REPLACE VIEW _fs_global.{hidden_schema}._fs_columns AS
SELECT
    database_name AS "TABLE_CATALOG",
    schema_name AS "TABLE_SCHEMA",
    table_name AS "TABLE_NAME",
    column_name AS "COLUMN_NAME",
    column_index AS "ORDINAL_POSITION",
    column_default AS "COLUMN_DEFAULT",
    CASE WHEN is_nullable THEN 'YES' ELSE 'NO' END AS "IS_NULLABLE",
    CASE
        WHEN is_fixed THEN 'NUMBER'
        WHEN data_type = 'VARCHAR' THEN 'TEXT'
        WHEN data_type IN ('DOUBLE', 'FLOAT') THEN 'FLOAT'
        WHEN data_type = 'BLOB' THEN 'BINARY'
        WHEN data_type = 'TIMESTAMP' THEN 'TIMESTAMP_NTZ'
        WHEN data_type = 'TIMESTAMP WITH TIME ZONE' THEN 'TIMESTAMP_LTZ'
        WHEN starts_with(data_type, 'STRUCT') THEN 'TIMESTAMP_TZ'
        WHEN data_type = 'JSON[]' THEN 'ARRAY'
        WHEN starts_with(data_type, 'MAP') THEN 'OBJECT'
        WHEN data_type = 'JSON' THEN 'VARIANT'
        ELSE data_type
    END AS "DATA_TYPE",
    CASE data_type WHEN 'VARCHAR' THEN coalesce(length, 16777216) WHEN 'BLOB' THEN 8388608 END
        AS "CHARACTER_MAXIMUM_LENGTH",
    CASE data_type WHEN 'VARCHAR' THEN least(coalesce(4 * length, 16777216), 16777216) WHEN 'BLOB' THEN 8388608 END
        AS "CHARACTER_OCTET_LENGTH",
    CASE WHEN starts_with(data_type, 'DECIMAL') THEN numeric_precision WHEN is_fixed THEN 38 END AS "NUMERIC_PRECISION",
    CASE WHEN is_fixed THEN 10 END AS "NUMERIC_PRECISION_RADIX",
    CASE WHEN is_fixed THEN coalesce(numeric_scale, 0) END AS "NUMERIC_SCALE",
    -- DuckDB keeps no number of digits of a second.
    NULL::BIGINT AS "DATETIME_PRECISION",
    'NO' AS "IS_IDENTITY",
    comment AS "COMMENT",
    NULL::VARCHAR AS "COLLATION_NAME",
    NULL::VARCHAR AS "IDENTITY_GENERATION",
    NULL::VARCHAR AS "IDENTITY_CYCLE",
    NULL::VARCHAR AS "IDENTITY_START",
    NULL::VARCHAR AS "IDENTITY_INCREMENT",
    NULL::VARCHAR AS "IDENTITY_ORDERED",
    NULL::VARCHAR AS "DATA_TYPE_ALIAS"
FROM (
    SELECT *, starts_with(data_type, 'DECIMAL') OR data_type IN ('BIGINT', 'HUGEINT', 'INTEGER', 'SMALLINT', 'TINYINT') AS is_fixed
    FROM duckdb_columns() WHERE NOT internal
)
LEFT JOIN (
    SELECT database_name, schema_name, table_name, constraint_column_names[1] AS column_name,
        min(TRY_CAST(regexp_extract(constraint_text, '^CHECK.+length.+ <= ([0-9]+)', 1) AS BIGINT)) AS length
    FROM duckdb_constraints() WHERE constraint_type = 'CHECK' GROUP BY ALL
) USING (database_name, schema_name, table_name, column_name)
WHERE schema_name <> '{hidden_schema}' AND NOT starts_with(table_name, '{kept}');

-- No stream can be created here: https://docs.snowflake.com/en/sql-reference/sql/show-streams#output
CREATE OR REPLACE VIEW _fs_global.{hidden_schema}.embedded_show_streams AS
SELECT now() AS created_on, '' AS name, '' AS database_name, '' AS schema_name, '' AS owner, '' AS comment,
    '' AS table_name, '' AS source_type, '' AS base_tables, '' AS type, '' AS stale, '' AS mode, now() AS stale_after,
    '' AS invalid_reason, '' AS owner_role_type
LIMIT 0;

-- No policy either: https://docs.snowflake.com/en/sql-reference/functions/policy_references
CREATE OR REPLACE VIEW _fs_global.{hidden_schema}.embedded_policy_references AS
SELECT '' AS "POLICY_DB", '' AS "POLICY_SCHEMA", '' AS "POLICY_NAME", '' AS "POLICY_KIND", '' AS "REF_DATABASE_NAME",
    '' AS "REF_SCHEMA_NAME", '' AS "REF_ENTITY_NAME", '' AS "REF_ENTITY_DOMAIN", '' AS "REF_COLUMN_NAME",
    '' AS "REF_ARG_COLUMN_NAMES", '' AS "TAG_DATABASE", '' AS "TAG_SCHEMA", '' AS "TAG_NAME", '' AS "POLICY_STATUS"
LIMIT 0;

-- What CREATE TABLE lists for a table that is there: its columns, then its checks.
CREATE OR REPLACE VIEW _fs_global.{hidden_schema}.embedded_definitions AS
SELECT database_name, schema_name, table_name, column_index AS position, column_name, comment,
    '"' || replace(column_name, '"', '""') || '" ' || data_type || CASE WHEN is_nullable THEN '' ELSE ' NOT NULL' END
        || coalesce(' DEFAULT ' || nullif(column_default, ''), '') AS definition
FROM duckdb_columns()
UNION ALL
SELECT database_name, schema_name, table_name, 1000000, NULL, NULL, constraint_text
FROM duckdb_constraints() WHERE constraint_type = 'CHECK';

-- The names of tables and views.
CREATE OR REPLACE VIEW _fs_global.{hidden_schema}.embedded_names AS
SELECT database_name, schema_name, table_name AS name FROM duckdb_tables()
UNION ALL
SELECT database_name, schema_name, view_name FROM duckdb_views();
