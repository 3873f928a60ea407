"""Analytics tables in Snowflake as Dagster assets: built, audited, then published in one atomic exchange.

What another code location calls is here, and docs/library.md shows how. Each name is imported when it is asked for: `import
run_elt_dagster` alone costs nothing.

- `build_defs`: the definitions of folders of SQL files. `build_parts` gives `Parts`: each part alone.
- `SqlFolder`: a folder, and what its assets are called. `FolderError`: folders that cannot be in one code location.
- `SqlTables`: the component for a defs.yaml.
- `Snowflake`, `Slack`: the resources. `Snowflake()` is the embedded Snowflake.
- `Settings`, `AlertSettings`: everything else, with the names of docs/settings.md. Their constructors read no variable.
- `defs`: the shipped code location. It reads the environment. `load_defs` returns it: Dagster calls that for `-m run_elt_dagster`.
"""

import importlib
import sys
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import dagster as dg

    from run_elt_dagster.alerts.slack import Slack
    from run_elt_dagster.components import SqlTables
    from run_elt_dagster.library import FolderError, Parts, SqlFolder, build_defs, build_parts
    from run_elt_dagster.settings import AlertSettings, Settings
    from run_elt_dagster.snowflake.resource import Snowflake

_PLACES = {
    **dict.fromkeys(("FolderError", "Parts", "SqlFolder", "build_defs", "build_parts"), "library"),
    "AlertSettings": "settings",
    "Settings": "settings",
    "Slack": "alerts.slack",
    "Snowflake": "snowflake.resource",
    "SqlTables": "components",
}

__all__ = [
    "AlertSettings",
    "FolderError",
    "Parts",
    "Settings",
    "Slack",
    "Snowflake",
    "SqlFolder",
    "SqlTables",
    "build_defs",
    "build_parts",
    "defs",  # pyright: ignore[reportUnsupportedDunderAll] - a property of the module
    "load_defs",  # pyright: ignore[reportUnsupportedDunderAll] - another one
]


def __getattr__(name: str) -> Any:
    """Import what is asked for: https://peps.python.org/pep-0562/."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


class _Package(ModuleType):
    """This module. Its definitions are loaded when somebody asks for them, and its parts can be imported alone.

    Dagster imports every name that `dir()` lists to find definitions, and `dg` does to find components, in each project where this package
    is installed. So it lists `load_defs`, and not `defs`.
    https://docs.python.org/3/reference/datamodel.html#customizing-module-attribute-access
    """

    @property
    def defs(self) -> "dg.Definitions":
        """The definitions of the code location."""
        from run_elt_dagster.model.parallel_reads import seldom_collected  # noqa: PLC0415

        with seldom_collected():
            from run_elt_dagster.definitions import defs  # noqa: PLC0415

        return defs

    @defs.setter
    def defs(self, folder: ModuleType) -> None:
        """Keep the name where Python would give it to the folder `defs/`, whenever something in there is imported."""

    @cached_property
    def load_defs(self) -> "Callable[..., dg.Definitions]":
        """The function that Dagster calls for the definitions: https://docs.dagster.io/api/dagster/definitions."""
        import dagster as dg  # noqa: PLC0415 - a second

        return dg.definitions(lambda: self.defs)

    def __dir__(self) -> list[str]:
        """Name what Dagster and `dg` look at."""
        return sorted({*super().__dir__(), *__all__} - {"defs"})


sys.modules[__name__].__class__ = _Package
