"""INFORMATION_SCHEMA and SHOW TABLES out of the register, in the place of fakesnow's views.

https://docs.snowflake.com/en/sql-reference/info-schema/tables and
https://docs.snowflake.com/en/sql-reference/sql/show-tables
"""

from collections.abc import Sequence

from run_elt_dagster.embedded.column_views import columns_view_sql
from run_elt_dagster.embedded.objects import DEFAULT_OWNER, HIDDEN_SCHEMA, KEPT_PREFIX, quoted

_GLOBAL = f"_fs_global.{HIDDEN_SCHEMA}"
TABLES_HISTORY_VIEW = f"{_GLOBAL}.embedded_show_tables_history"


def views_sql(database: str) -> list[str]:
    """Return the statements that replace fakesnow's views in one database; safe to repeat."""
    hidden = f"{quoted(database)}.{HIDDEN_SCHEMA}"
    return [
        columns_view_sql(database),
        relations_view_sql(database),
        f"""CREATE OR REPLACE VIEW {hidden}._fs_tables AS
        SELECT * EXCLUDE (DROPPED_ON) FROM {hidden}.embedded_relations WHERE "DROPPED_ON" IS NULL""",
    ]


def global_views_sql(databases: Sequence[str]) -> list[str]:
    """Return the statements that replace fakesnow's views over all databases; safe to repeat."""
    return [
        _tables_history_view_sql(databases),
        _show_tables_view_sql(),
        _show_objects_view_sql(),
    ]


def relations_view_sql(
    database: str, *, type_sql: str = "relations.kind", iceberg_sql: str = "'NO'", dynamic_sql: str = "'NO'"
) -> str:
    """Return the statement that creates the view behind INFORMATION_SCHEMA.TABLES, with dropped tables in it.

    The row count is exact, as on Snowflake. The instants are Snowflake's TIMESTAMP_LTZ, in UTC.

    Args:
        database: Where the view belongs.
        type_sql: The expression for TABLE_TYPE.
        iceberg_sql: The expression for IS_ICEBERG.
        dynamic_sql: The expression for IS_DYNAMIC.
    """
    hidden = f"{quoted(database)}.{HIDDEN_SCHEMA}"
    return f"""
CREATE OR REPLACE VIEW {hidden}.embedded_relations AS
SELECT
    relations.database_name AS "TABLE_CATALOG",
    relations.schema_name AS "TABLE_SCHEMA",
    coalesce(objects.dropped_name, relations.name) AS "TABLE_NAME",
    coalesce(objects.owner, '{DEFAULT_OWNER}') AS "TABLE_OWNER",
    {type_sql} AS "TABLE_TYPE",
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
    coalesce(objects.owner, '{DEFAULT_OWNER}') AS "LAST_DDL_BY",
    'NO' AS "AUTO_CLUSTERING_ON",
    coalesce(objects.comment, relations.comment) AS "COMMENT",
    'NO' AS "IS_TEMPORARY",
    {iceberg_sql} AS "IS_ICEBERG",
    {dynamic_sql} AS "IS_DYNAMIC",
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
WHERE relations.database_name = '{database.replace("'", "''")}' AND relations.schema_name NOT IN ('{HIDDEN_SCHEMA}', 'main')
    AND (objects.dropped_on > now() - INTERVAL 1 DAY OR NOT starts_with(relations.name, '{KEPT_PREFIX}'))
"""


def _tables_history_view_sql(databases: Sequence[str]) -> str:
    """Return the statement that creates the view behind SHOW TABLES HISTORY, over all databases."""
    tables = " UNION ALL ".join(
        f"SELECT * FROM {quoted(name)}.{HIDDEN_SCHEMA}.embedded_relations" for name in databases
    )
    return f"""
CREATE OR REPLACE VIEW {TABLES_HISTORY_VIEW} AS
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
WHERE "TABLE_TYPE" IN ('BASE TABLE', 'EXTERNAL TABLE')
"""


def _show_tables_view_sql() -> str:
    """Return the statement that replaces fakesnow's view behind SHOW TABLES."""
    return f"""
CREATE OR REPLACE VIEW {_GLOBAL}._fs_show_tables AS
SELECT * EXCLUDE (dropped_on) FROM {TABLES_HISTORY_VIEW} WHERE dropped_on IS NULL
"""


def _show_objects_view_sql() -> str:
    """Return the statement that replaces fakesnow's view behind SHOW OBJECTS: https://docs.snowflake.com/en/sql-reference/sql/show-objects."""
    return f"""
CREATE OR REPLACE VIEW {_GLOBAL}._fs_show_objects AS
SELECT created_on, name, database_name, schema_name, kind, comment, cluster_by, rows, bytes, owner, retention_time,
    owner_role_type, is_hybrid, is_dynamic, is_iceberg
FROM {_GLOBAL}._fs_show_tables
UNION ALL
SELECT created_on, name, database_name, schema_name, 'VIEW', comment, '', NULL, NULL, owner, NULL, owner_role_type, 'N', 'N', 'N'
FROM {_GLOBAL}._fs_show_views
"""
