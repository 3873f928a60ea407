"""The folder `defs/` that `dg scaffold defs` writes to: assets, schedules, components of your own beside the tables."""

import importlib
import warnings
from pathlib import Path

import dagster as dg

FOLDER = Path(__file__).parents[1] / "defs"


def scaffolded_definitions() -> dg.Definitions:
    """Return what the folder defines; as long as it is empty, nothing is imported for it.

    `dg.load_from_defs_folder` would look for a pyproject.toml. An installed package does not have one.
    https://docs.dagster.io/guides/build/projects-and-components/creating-a-project
    """
    if not FOLDER.is_dir() or not any(path.name[0] not in "_." for path in FOLDER.iterdir()):
        return dg.Definitions()
    folder = importlib.import_module("run_elt_dagster.defs")
    with warnings.catch_warnings():
        # Dagster 1.13 warns of its own functions.
        warnings.filterwarnings("ignore", r"Function `load_definitions_from_modules?` is currently in preview")
        return dg.ComponentTree.from_module(defs_module=folder, project_root=FOLDER.parent).build_defs()
