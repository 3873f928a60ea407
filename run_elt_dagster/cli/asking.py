"""Who gives a command, and whether they want what it is about to do."""

import getpass
import sys


def person() -> str:
    """Return who gives the command: the user of the operating system."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a user without a name.
        return ""


def agrees(subject: str, question: str, *, unchanged: str = "Nothing was changed.") -> bool:
    """Ask whether to go on, and say so if not.

    Args:
        subject: What is about to happen, as the subject of an error.
        question: What the terminal asks.
        unchanged: What is said if they do not.

    Raises:
        ValueError: There is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise ValueError(f"{subject} requires an answer, got no terminal. {unchanged} Pass --yes.")
    if input(f"{question} Type yes: ").strip().lower() == "yes":
        return True
    print(unchanged)
    return False
