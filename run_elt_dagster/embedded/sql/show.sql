-- What SHOW TABLES HISTORY lists, over all databases: https://docs.snowflake.com/en/sql-reference/sql/show-tables
CREATE OR REPLACE VIEW _fs_global.{hidden_schema}.embedded_show_tables_history AS
SELECT
    "CREATED" AS created_on,
    "TABLE_NAME" AS name,
    "TABLE_CATALOG" AS database_name,
    "TABLE_SCHEMA" AS schema_name,
    CASE "IS_TRANSIENT" WHEN 'YES' THEN 'TRANSIENT' ELSE 'TABLE' END AS kind,
    coalesce("COMMENT", '') AS comment,
    '' AS cluster_by,
    "ROW_COUNT" AS rows,
    "BYTES" AS bytes,
    "TABLE_OWNER" AS owner,
    "RETENTION_TIME"::VARCHAR AS retention_time,
    "DROPPED_ON" AS dropped_on,
    'OFF' AS automatic_clustering,
    'OFF' AS change_tracking,
    'OFF' AS search_optimization,
    NULL::VARCHAR AS search_optimization_progress,
    NULL::VARCHAR AS search_optimization_bytes,
    CASE "TABLE_TYPE" WHEN 'EXTERNAL TABLE' THEN 'Y' ELSE 'N' END AS is_external,
    'N' AS enable_schema_evolution,
    'ROLE' AS owner_role_type,
    'N' AS is_event,
    NULL::VARCHAR AS budget,
    'N' AS is_hybrid,
    "IS_ICEBERG"[1] AS is_iceberg,
    "IS_DYNAMIC"[1] AS is_dynamic,
    'N' AS is_immutable
FROM ({tables})
WHERE "TABLE_TYPE" IN ('BASE TABLE', 'EXTERNAL TABLE');

-- In the place of fakesnow's view.
CREATE OR REPLACE VIEW _fs_global.{hidden_schema}._fs_show_tables AS
SELECT * EXCLUDE (dropped_on) FROM _fs_global.{hidden_schema}.embedded_show_tables_history WHERE dropped_on IS NULL;

-- In the place of fakesnow's view: https://docs.snowflake.com/en/sql-reference/sql/show-objects
CREATE OR REPLACE VIEW _fs_global.{hidden_schema}._fs_show_objects AS
SELECT created_on, name, database_name, schema_name, kind, comment, cluster_by, rows, bytes, owner, retention_time,
    owner_role_type, is_hybrid, is_dynamic, is_iceberg
FROM _fs_global.{hidden_schema}._fs_show_tables
UNION ALL
SELECT created_on, name, database_name, schema_name, 'VIEW', comment, '', NULL, NULL, owner, NULL, owner_role_type, 'N', 'N', 'N'
FROM _fs_global.{hidden_schema}._fs_show_views;
