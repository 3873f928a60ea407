"""An empty database of the embedded Snowflake, copied: its register and views take a quarter of the CPU of a server's start."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from run_elt_dagster.embedded.server import EmbeddedServer
from run_elt_dagster.embedded.set_up import set_up_database

DATABASE = "RUN_ELT"


def lay_empty_database(directory: Path, kind: type[EmbeddedServer] = EmbeddedServer) -> None:
    """Put the database of a kind of server into a folder where a server of that kind begins; one that is there stays."""
    directory.mkdir(parents=True, exist_ok=True)
    if not (file := directory / f"{DATABASE}.db").exists():
        shutil.copyfile(_made(kind), file)


@functools.cache
def _made(kind: type[EmbeddedServer]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="empty-database-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    server = kind(folder)
    set_up_database(server.engine, DATABASE, sample_data=False, log=print)
    server.stop()
    return folder / f"{DATABASE}.db"
