"""The configuration of the SQLMesh project: https://sqlmesh.readthedocs.io/en/stable/guides/configuration/.

The state is in a DuckDB file in the project's folder.
"""

import os
from typing import Any

from sqlmesh.core.config import Config, DuckDBConnectionConfig, GatewayConfig, ModelDefaultsConfig
from sqlmesh.core.config.connection import SnowflakeConnectionConfig


class LoopbackConnectionConfig(SnowflakeConnectionConfig):
    """A connection over HTTP. SQLMesh 0.236 has settings for host and port, and none for the protocol."""

    @property
    def _static_connection_kwargs(self) -> dict[str, Any]:
        return {**super()._static_connection_kwargs, "protocol": os.environ["BENCH_PROTOCOL"]}


def _variable(name: str) -> str:
    return os.environ[f"BENCH_{name}"]


config = Config(
    gateways={
        "bench": GatewayConfig(
            connection=LoopbackConnectionConfig(
                account=_variable("ACCOUNT"),
                user=_variable("USER"),
                password=_variable("PASSWORD"),
                role=_variable("ROLE"),
                warehouse=_variable("WAREHOUSE"),
                database=_variable("DATABASE"),
                host=_variable("HOST"),
                port=int(_variable("PORT")),
                concurrent_tasks=int(_variable("THREADS")),
            ),
            state_connection=DuckDBConnectionConfig(database="state.db", concurrent_tasks=int(_variable("THREADS"))),
        )
    },
    default_gateway="bench",
    model_defaults=ModelDefaultsConfig(dialect="snowflake"),
)
