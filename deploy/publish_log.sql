-- The log of publishes, for deployments that set RUN_ELT_LOG_SCHEMA: docs/publish_log.md. The role of the runs may
-- add rows and read them. It owns neither table, so it can change and delete none. Run it as somebody who may use
-- SYSADMIN and SECURITYADMIN. It is safe to repeat.

-- EDIT: names. RUN_ELT_LOG_SCHEMA is the schema, with its database if that is not SNOWFLAKE_DATABASE.
set service_role = 'RUN_ELT';
set log_database = 'ANALYTICS';
set log_schema = 'ANALYTICS.RUN_ELT';
set publishes_table = $log_schema || '.PUBLISHES';
set check_results_table = $log_schema || '.CHECK_RESULTS';

use role sysadmin;
create schema if not exists identifier($log_schema);

create table if not exists identifier($publishes_table) (
    entry_id varchar not null,
    run_id varchar not null,
    table_database varchar not null,
    table_schema varchar not null,
    table_name varchar not null,
    partition_key varchar,
    finished_at timestamp_ntz not null,
    job varchar,
    launched_by varchar,
    state varchar not null,
    failed_stage varchar,
    publish_method varchar,
    code_version varchar,
    superseded_by varchar,
    waived_checks varchar,
    row_count number(38, 0),
    bytes number(38, 0),
    build_seconds float,
    audit_seconds float,
    publish_seconds float,
    build_query_id varchar,
    audit_query_id varchar,
    publish_query_id varchar
) comment = 'What became of each table of each run. Written by run_elt_dagster.';

create table if not exists identifier($check_results_table) (
    entry_id varchar not null,
    run_id varchar not null,
    table_database varchar not null,
    table_schema varchar not null,
    table_name varchar not null,
    partition_key varchar,
    finished_at timestamp_ntz not null,
    check_name varchar not null,
    kind varchar not null,
    severity varchar not null,
    verdict varchar not null,
    is_of_candidate boolean not null,
    measure varchar,
    got float,
    expected_min float,
    expected_max float,
    query_id varchar
) comment = 'What each check of each run measured. Written by run_elt_dagster.';

use role securityadmin;
grant usage on database identifier($log_database) to role identifier($service_role);
grant usage on schema identifier($log_schema) to role identifier($service_role);
grant select, insert on table identifier($publishes_table) to role identifier($service_role);
grant select, insert on table identifier($check_results_table) to role identifier($service_role);
