#!/bin/sh
# Takes secrets out of the files that NAME_FILE names into NAME, then becomes the command.
set -eu

for name in DAGSTER_POSTGRES_PASSWORD RUN_ELT_ALERT_RECEIVERS RUN_ELT_HEARTBEAT_URL RUN_ELT_SLACK_APP_TOKEN SLACK_TOKEN \
    SNOWFLAKE_PASSWORD SNOWFLAKE_PRIVATE_KEY_PASSWORD; do
    eval "file=\${${name}_FILE:-} value=\${${name}:-}"
    [ -n "$file" ] || continue
    if [ -n "$value" ]; then
        echo "$name requires one source, got ${name}_FILE too. Nothing was started. Unset one of them." >&2
        exit 1
    fi
    if [ ! -r "$file" ]; then
        echo "${name}_FILE requires a file that $(id -u) may read, got $file. Nothing was started." >&2
        exit 1
    fi
    value=$(cat "$file")
    export "$name=$value"
    unset "${name}_FILE"
done

exec "$@"
