"""The sorts of trials, and which one a trial's name belongs to; without importing what they need."""

NAMES = ("matrix", "interleavings", "processes")
_SORTS = {"fault": "matrix", "rollback": "matrix", "interleaving": "interleavings", "process": "processes"}


def sort_of(name: str) -> str:
    """Return the sort of a trial.

    Raises:
        ValueError: There is none.
    """
    start = name.partition("/")[0]
    if start not in _SORTS:
        raise ValueError(f"a trial's name requires one of {', '.join(_SORTS)} at its start, got {name!r}.")
    return _SORTS[start]
