"""Write the table of checks in docs/doctor.md from the checks of `run-elt doctor`: `make docs`."""

import re
from pathlib import Path

from run_elt_dagster.doctor import account, channel, deployment, installation, receivers

PAGE = Path(__file__).parent / "doctor.md"
BEGIN, END = "<!-- Written by `make docs` from run_elt_dagster/doctor: begin -->", "<!-- end -->"
CHECKS = (*installation.Check, *account.Check, *channel.Check, *receivers.Check, *deployment.Check)


def texts() -> dict[Path, str]:
    """Return what the page must contain."""
    rows = [f"| `{check}` | {check.fails_if} |" for check in CHECKS]
    table = "\n".join([BEGIN, "", "| check | fails if |", "| --- | --- |", *rows, "", END])
    return {PAGE: re.sub(f"{BEGIN}.*?{END}", lambda _: table, PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)}


if __name__ == "__main__":
    for path, text in texts().items():
        path.write_text(text, encoding="utf-8")
