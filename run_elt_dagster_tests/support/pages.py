"""The code blocks of the documentation.

A block of a shell is run where its page is a story. The comment `# fails` says that a command ends with an error. A block with
`title="path"` behind its language is a file: it is written before the commands that follow it.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "deploy/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "run_elt_dagster_tests" / "snowflake" / "README.md",
]
# e2e/test_pages.py does what these say, one after another in one folder.
STORIES = ("README.md", "docs/getting_started.md", "docs/tutorial.md")
# What is not run there, by how the command starts, and why. All other commands of all pages are in a story.
_INSTALLS = "installs; .ci/run does, by make"
_MACHINE = "changes the machine, or needs root, Docker or Kubernetes; unit/test_deploy.py reads the files"
_SECRETS = "an example of a secret; e2e/test_deployment.py makes its own"
_LONG = "takes too long for a test of the pages"
_ACCOUNT = "needs an account"
NOT_RUN = {
    "make run": "e2e/test_make.py runs it",
    "make example-partitions": "e2e/test_make.py runs it",
    "make test": ".ci/run runs it",
    "make bench": _LONG,
    "RUN_ELT_TESTS_TPC_PYTHON=": f"{_LONG}; .github/workflows/thorough.yml runs these tests",
    "make faults": f"{_LONG}; integration/test_fault_trials.py runs some trials",
    ".venv/bin/python -m pytest": ".ci/run runs all tests",
    ".venv/bin/python -m benchmarks": f"{_LONG}; unit/test_benchmarks.py runs parts",
    "python3.11 -m venv": _INSTALLS,
    "pip install": _INSTALLS,
    "dagster dev": "goes on until it is stopped; e2e/test_user_interface.py runs it",
    "dagster definitions validate": ".ci/run runs it on the wheel",
    "dagster asset materialize --select '*'": "e2e/test_command_line.py runs it",
    "dagster asset materialize --select analytics/mau_summary": "e2e/test_command_line.py builds the table with all others",
    "uvx create-dagster": _INSTALLS,
    "cd shop": _INSTALLS,
    "uv venv": _INSTALLS,
    "uv pip install": _INSTALLS,
    "source .venv/bin/activate": _INSTALLS,
    "dg scaffold defs run_elt_dagster.SqlTables": "in a project of the reader; e2e/test_component.py has one",
    "dg dev": "goes on until it is stopped",
    "run-elt show analytics.mau_summary": "e2e/test_command_line.py runs it",
    "run-elt doctor": "fails without a daemon; integration/test_doctor.py looks at each check",
    "run-elt retry": "needs a failed run; integration/test_retry.py makes one",
    "run-elt publish": "needs a candidate that a run has kept; integration/test_publish_by_hand.py makes one",
    "run-elt rollback": "asks, and needs two versions; integration/test_rollback.py has them",
    "run-elt rebuild": "of a table of the reader; e2e/test_catalogue.py rebuilds one",
    "run-elt alert": "posts to Slack, or needs an open incident; integration/test_alert_command.py has both",
    "run-elt watch": "goes on until it is stopped; integration/test_watch.py runs it",
    "run-elt preview analytics.orders": "of a table of the reader; integration/test_trying_out.py previews one",
    "run-elt diff": "of a table of the reader; integration/test_trying_out.py compares one",
    'run-elt query "select * from analytics.orders': "of a table of the reader; integration/test_trying_out.py asks one",
    "run-elt test": "unit/test_table_tests.py runs tests of tables",
    "pytest run_elt_dagster/tables": "the plugin runs with all tests, and integration/test_table_tests_elsewhere.py runs it alone",
    "run-elt cost": f"{_ACCOUNT}; integration/test_cost.py has a simulator of one",
    "DAGSTER_HOME=$PWD dagster asset wipe": "a command of Dagster's, on the history of the reader",
    "DAGSTER_HOME=$PWD dagster instance migrate": "a command of Dagster's, on the history of the reader",
    "export RUN_ELT_TESTS_SNOWFLAKE": _ACCOUNT,
    "python -m pytest run_elt_dagster_tests/snowflake": _ACCOUNT,
    "printf %s": _SECRETS,
    "openssl": _SECRETS,
    "cp ": _SECRETS,
    "install -d": _SECRETS,
    "umask": _SECRETS,
    "chmod": _SECRETS,
    "sudo": _MACHINE,
    "docker": _MACHINE,
    "kubectl": _MACHINE,
    "helm": _MACHINE,
    "journalctl": _MACHINE,
    "/opt/run_elt": _MACHINE,
}


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        page: Its page, from the root of the repository.
        line: Line of the page where it begins, from 1.
        language: The first word behind the fence; empty if there is none.
        title: The file that the block is, from the root of the repository; empty if it is none.
        text: What it holds.
    """

    page: str
    line: int
    language: str
    title: str
    text: str

    @property
    def place(self) -> str:
        """The page and the line."""
        return f"{self.page}:{self.line}"

    def commands(self) -> Iterator["Command"]:
        """Yield the commands of a shell block. One that goes on in the next line is one."""
        for line in re.sub(r"\\\n\s*", "", self.text).splitlines():
            if shlex.split(line, comments=True):
                text, _, comment = re.sub(r"\s+(?=# )", "\0", line, count=1).partition("\0")
                yield Command(self, text.strip(), fails=comment.startswith("# fails"))


@dataclass(frozen=True)
class Command:
    """A command of a shell block.

    Attributes:
        block: The block.
        text: The command, without its comment.
        fails: Whether its comment says so.
    """

    block: Block
    text: str
    fails: bool

    @property
    def reason(self) -> str:
        """Why it is not run by e2e/test_pages.py; empty if it is."""
        return next((reason for start, reason in NOT_RUN.items() if self.text.startswith(start)), "")


def blocks(*languages: str) -> list[Block]:
    """Return the blocks of some languages, of all by default."""
    found = [block for page in PAGES for block in _blocks_of(page)]
    return [block for block in found if not languages or block.language in languages]


@cache
def _blocks_of(page: Path) -> Sequence[Block]:
    # Without what stands within a paragraph: every process of the tests reads all pages.
    tokens = MarkdownIt("commonmark").disable("inline").parse(page.read_text(encoding="utf-8"))
    return [_block(page, token) for token in tokens if token.type == "fence"]


def _block(page: Path, token: Token) -> Block:
    language, _, rest = token.info.partition(" ")
    title = re.fullmatch(r'title="([^"]+)"', rest.strip())
    start, _ = token.map or (0, 0)
    return Block(str(page.relative_to(ROOT)), start + 1, language, title[1] if title else "", token.content)
