"""What can be wrong with a table file, and where."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TableProblem:
    """What is wrong with a table file, and where.

    Attributes:
        path: The file, or None for a table that was given as a mapping.
        line: Line of the file, from 1.
        message: What is required, what was found, what to do.
        others: The other files that it is a problem of.
    """

    path: Path | None
    line: int
    message: str
    others: tuple[Path, ...] = ()

    @property
    def place(self) -> str:
        """`path:line`. Editors and terminals turn it into a link."""
        # A name on disk may be no text at all, and neither a terminal nor Dagster takes that.
        path = str(self.path or "table").encode("utf-8", "backslashreplace").decode()
        return f"{path}:{self.line}"

    @property
    def short(self) -> str:
        """`name:line: message`, where what is wrong has to stand early."""
        return f"{Path(self.place).name}: {self.message}"

    def __str__(self) -> str:
        """Return `path:line: message`."""
        return f"{self.place}: {self.message}"


class TableProblemsError(ValueError):
    """Every problem of every table file, found in one go."""

    def __init__(self, problems: Sequence[TableProblem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        listing = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(
            f"{count} problem{'s' if count > 1 else ''} in table files. No table was loaded, so none can be left out "
            f"unnoticed. Correct these lines and load again:\n{listing}",
        )
