"""Build the site of the documentation, strictly: `make site`. It needs no network."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
# What pages are, and what they link to. Each is copied to its path in the repository, so the links stay as they are.
SOURCES = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "LICENSE",
    ".env.example",
    "docs",
    "deploy",
    "run_elt_dagster_tests/snowflake/README.md",
)
NOT_PAGES = shutil.ignore_patterns("write_*.py", "build_site.py", "take_pictures.py", "__pycache__")
# mkdocs-material 9.8 prints at each start that MkDocs 2 will not run it. docs/decisions/0021-site.md has what follows from it.
QUIET = {"NO_MKDOCS_2_WARNING": "1"}


def copy_pages(target: Path) -> None:
    """Copy the pages, and what they link to, into an empty folder."""
    shutil.rmtree(target, ignore_errors=True)
    for name in SOURCES:
        source, copy = ROOT / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=NOT_PAGES)
        else:
            shutil.copyfile(source, copy)


def main() -> int:
    """Build the site, and return the exit code of mkdocs: 1 where a link leads nowhere."""
    # Its tags name functions of Python. BaseLoader reads them as text.
    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506
    copy_pages(ROOT / config["docs_dir"])
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean"]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **QUIET}, check=False).returncode  # noqa: S603 - our own words


if __name__ == "__main__":
    sys.exit(main())
