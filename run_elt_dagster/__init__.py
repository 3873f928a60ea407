"""Analytics tables in Snowflake as Dagster assets: built, audited, then published in one atomic exchange."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from run_elt_dagster.definitions import defs

__all__ = ["defs"]


def __getattr__(name: str) -> Any:
    """Load the definitions when Dagster asks for them (`-m run_elt_dagster`), so that parts can be imported alone."""
    if name == "defs":
        from run_elt_dagster.definitions import defs  # noqa: PLC0415

        return defs
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Name what Dagster looks for."""
    return [*globals(), "defs"]
