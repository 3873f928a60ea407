"""Alembic reads the 89 migrations of a storage of Dagster each time it is opened: two thirds of what an ephemeral instance takes.

The files do not change while tests run, so a process reads them once.
"""

from collections.abc import Generator
from contextlib import contextmanager

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory


@contextmanager
def migrations_read_once() -> Generator[None]:
    """Let Alembic keep each folder of migrations that it has read."""
    read, kept = ScriptDirectory.from_config, dict[str | None, ScriptDirectory]()

    def from_config(config: Config) -> ScriptDirectory:
        folder = config.get_main_option("script_location")
        if folder not in kept:
            kept[folder] = read(config)
        return kept[folder]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ScriptDirectory, "from_config", from_config)
        yield
