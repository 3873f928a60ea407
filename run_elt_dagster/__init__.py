"""Analytics tables in Snowflake as Dagster assets: built, audited, then published in one atomic exchange.

What another code location calls is here, and docs/library.md shows how. Each name is imported when it is asked for: `import
run_elt_dagster` alone costs nothing.

- `build_defs`: the definitions of folders of SQL files. `build_parts` gives `Parts`: each part alone.
- `SqlFolder`: a folder, and what its assets are called. `FolderError`: folders that cannot be in one code location.
- The component for a defs.yaml is `run_elt_dagster.components.SqlTables`. It is not here: `dg` would look at every name of this module, and
  load `defs` for it.
- `Snowflake`, `Slack`: the resources. `Snowflake()` is the embedded Snowflake.
- `Settings`, `AlertSettings`: everything else, with the names of docs/settings.md. Their constructors read no variable.
- `defs`: the shipped code location. It reads the environment.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import dagster as dg

    from run_elt_dagster.alerts.slack import Slack
    from run_elt_dagster.library import FolderError, Parts, SqlFolder, build_defs, build_parts
    from run_elt_dagster.settings import AlertSettings, Settings
    from run_elt_dagster.snowflake.resource import Snowflake

_PLACES = {
    **dict.fromkeys(("FolderError", "Parts", "SqlFolder", "build_defs", "build_parts"), "library"),
    "AlertSettings": "settings",
    "Settings": "settings",
    "Slack": "alerts.slack",
    "Snowflake": "snowflake.resource",
}

__all__ = [
    "AlertSettings",
    "FolderError",
    "Parts",
    "Settings",
    "Slack",
    "Snowflake",
    "SqlFolder",
    "build_defs",
    "build_parts",
    "defs",  # pyright: ignore[reportUnsupportedDunderAll] - a property of the module
]


def __getattr__(name: str) -> Any:
    """Import what is asked for: https://peps.python.org/pep-0562/."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


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
