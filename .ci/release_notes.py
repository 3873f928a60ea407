#!/usr/bin/env python3
"""Print what CHANGELOG.md says of one version, for the release that a tag makes: .ci/release_notes.py 0.1.0."""

import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"
HEADING = re.compile(r"^## \[(?P<version>[^\]]+)\](?: - \d{4}-\d{2}-\d{2})?$", re.MULTILINE)


def notes_of(changelog: str, version: str) -> str:
    """Return the text below the heading of a version, without the heading.

    Raises:
        ValueError: there is no such heading, or no text below it.
    """
    headings = list(HEADING.finditer(changelog))
    found = {heading["version"]: heading for heading in headings}
    if version not in found:
        raise ValueError(
            f"a release requires a heading of its version in CHANGELOG.md, got none for {version}. Nothing was released. "
            f"Turn ## [Unreleased] into ## [{version}] - YYYY-MM-DD."
        )
    begin = found[version].end()
    end = next((heading.start() for heading in headings if heading.start() > begin), len(changelog))
    text = changelog[begin:end].strip()
    if not text:
        raise ValueError(f"a release requires notes, got no text below the heading of {version}. Nothing was released.")
    return text


if __name__ == "__main__":
    try:
        print(notes_of(CHANGELOG.read_text(encoding="utf-8"), *sys.argv[1:]))
    except ValueError as error:
        sys.exit(str(error))
