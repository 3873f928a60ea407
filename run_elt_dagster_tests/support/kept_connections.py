"""Connections to Dagster's storage that this process keeps: a test starts without any, as a process does."""

import sys


def stop_keeping() -> None:
    """Close those that are kept, and keep none from now on."""
    if "run_elt_dagster.storage.idle" not in sys.modules:
        return
    # Most tests need no SQLAlchemy.
    from sqlalchemy import event, make_url  # noqa: PLC0415
    from sqlalchemy.dialects import registry  # noqa: PLC0415

    from run_elt_dagster.storage.idle import IDLE  # noqa: PLC0415
    from run_elt_dagster.storage.sqlite import LISTENERS, SharingDialect  # noqa: PLC0415

    IDLE.close()
    for target, name, function in LISTENERS:
        if event.contains(target, name, function):
            event.remove(target, name, function)
    if make_url("sqlite://").get_dialect() is SharingDialect:
        # SQLAlchemy finds its own again.
        registry.deregister("sqlite")
