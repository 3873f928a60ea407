-- A service user, its role, warehouse, resource monitor and network policy, with the rights that run_elt_dagster needs
-- and no others; docs/security.md explains each. Run it as somebody who may use ACCOUNTADMIN, after editing what is
-- marked EDIT. It is safe to repeat. A session variable holds 256 bytes, which a public key exceeds.
-- https://docs.snowflake.com/en/sql-reference/session-variables

-- EDIT: names. A schema or a table comes with its database.
set service_user = 'RUN_ELT';
set service_role = 'RUN_ELT';
set warehouse_name = 'RUN_ELT';
set monitor_name = 'RUN_ELT';
set policy_name = 'RUN_ELT';
set database_name = 'ANALYTICS';
set source_schema = 'ANALYTICS.RAW_DATA';
set target_schema = 'ANALYTICS.ANALYTICS';

-- Role and user. A service user has no password and no page to sign in on.
-- https://docs.snowflake.com/en/sql-reference/sql/create-user
use role useradmin;
create role if not exists identifier($service_role)
comment = 'Builds, audits and publishes the analytics tables: run_elt_dagster';
create user if not exists identifier($service_user)
    type = service
    comment = 'run_elt_dagster';
-- No secondary roles: the session has the rights of its role and of nothing else that is ever granted to the user.
alter user identifier($service_user) set
default_role = $service_role
default_warehouse = $warehouse_name
default_secondary_roles = ();
grant role identifier($service_role) to user identifier($service_user);
-- Whoever administers objects can look after the tables that the role owns.
grant role identifier($service_role) to role sysadmin;

-- EDIT: addresses of the code server and of the runs. Those of the documentation let nobody in.
-- https://docs.snowflake.com/en/sql-reference/sql/create-network-policy
use role securityadmin;
create network policy if not exists identifier($policy_name)
allowed_ip_list = ('203.0.113.10')
comment = 'Where run_elt_dagster runs';
alter user identifier($service_user) set network_policy = $policy_name;

-- EDIT: the public key, one line without its BEGIN and END.
-- https://docs.snowflake.com/en/user-guide/key-pair-auth
alter user identifier($service_user) set rsa_public_key = 'PUBLIC_KEY_OF_RUN_ELT';

-- Warehouse: it sleeps after a minute, and ends a statement after four hours, as the session does.
-- https://docs.snowflake.com/en/sql-reference/sql/create-warehouse
use role sysadmin;
create warehouse if not exists identifier($warehouse_name)
warehouse_size = 'XSMALL'
initially_suspended = true
comment = 'run_elt_dagster';
alter warehouse identifier($warehouse_name) set
auto_suspend = 60
auto_resume = true
statement_timeout_in_seconds = 14400
statement_queued_timeout_in_seconds = 3600;

create schema if not exists identifier($target_schema);

-- EDIT: credits in a month. At the quota the warehouse takes no new statements; a little above it, running ones end.
-- https://docs.snowflake.com/en/sql-reference/sql/create-resource-monitor
use role accountadmin;
create resource monitor if not exists identifier($monitor_name)
with credit_quota = 50
frequency = monthly
start_timestamp = immediately
triggers
on 80 percent do notify
on 100 percent do suspend
on 110 percent do suspend_immediate;
-- Takes a name and no variable.
set assign_monitor = 'alter warehouse ' || $warehouse_name || ' set resource_monitor = ' || $monitor_name;
execute immediate $assign_monitor;

-- What the role may do: run statements on its warehouse, read two tables, and make tables in one schema.
use role securityadmin;
grant usage on warehouse identifier($warehouse_name) to role identifier($service_role);
grant usage on database identifier($database_name) to role identifier($service_role);
grant usage on schema identifier($source_schema) to role identifier($service_role);
grant usage on schema identifier($target_schema) to role identifier($service_role);
grant create table on schema identifier($target_schema) to role identifier($service_role);

-- EDIT: the tables that the SQL files read.
set first_source = $source_schema || '.SESSION_TIMESTAMP';
set second_source = $source_schema || '.USER_SESSION_CHANNEL';
grant select on table identifier($first_source) to role identifier($service_role);
grant select on table identifier($second_source) to role identifier($service_role);

-- What came of it.
show grants to role identifier($service_role);
show grants to user identifier($service_user);
