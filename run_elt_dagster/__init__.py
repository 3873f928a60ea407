"""Analytics tables in Snowflake as Dagster assets: built, audited, then published in one atomic exchange."""

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dagster as dg

__all__ = ["defs"]  # pyright: ignore[reportUnsupportedDunderAll] - a property of the module


class _Package(ModuleType):
    """This module. Its definitions are loaded when Dagster asks for them (`-m run_elt_dagster`), so parts can be imported alone.

    https://docs.python.org/3/reference/datamodel.html#customizing-module-attribute-access
    """

    @property
    def defs(self) -> "dg.Definitions":
        """The definitions of the code location."""
        from run_elt_dagster.definitions import defs  # noqa: PLC0415

        return defs

    @defs.setter
    def defs(self, folder: ModuleType) -> None:
        """Keep the name where Python would give it to the folder `defs/`, whenever something in there is imported."""

    def __dir__(self) -> list[str]:
        """Name what Dagster looks for."""
        return [*super().__dir__(), "defs"]


sys.modules[__name__].__class__ = _Package
