"""Asks the webserver whether every code location is loaded, or loads them again, and says why one is not. Exit code 0 or 1.

    python location.py http://127.0.0.1:3000             is everything loaded: a health check
    python location.py http://127.0.0.1:3000 --reload    after a change of files; runs that go on are not touched. A broken file of
                                                         a table is named too, though everything else is loaded

It needs nothing but Python. https://docs.dagster.io/api/graphql
"""

import argparse
import json
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

# Loading a thousand tables on a busy machine takes its time.
RELOAD_SECONDS, ASK_SECONDS = 300, 20
ERROR = "... on PythonError { message errorChain { error { message } } }"
STATE = f"loadStatus locationOrLoadError {{ __typename {ERROR} }}"
ASK = f"{{ workspaceOrError {{ ... on Workspace {{ locationEntries {{ name {STATE} }} }} {ERROR} }} }}"
RELOAD = f"mutation($name: String!) {{ reloadRepositoryLocation(repositoryLocationName: $name) {{ __typename ... on WorkspaceLocationEntry {{ name {STATE} }} {ERROR} }} }}"
# A table whose file is broken has this tag, and metadata of the same name that says what is wrong.
BROKEN = "run_elt/broken"
ASSETS = "{ assetNodes { assetKey { path } tags { key } metadataEntries { label ... on TextMetadataEntry { text } } } }"


def ask(url: str, query: str, *, seconds: float, **variables: str) -> Mapping[str, Any]:
    """Return what GraphQL answers."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{url.rstrip('/')}/graphql", body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=seconds) as response:  # noqa: S310 - the address of our own webserver
        return json.load(response)["data"]


def problems(url: str, *, is_reload: bool) -> Iterator[str]:
    """Yield what is not loaded, and why."""
    workspace = ask(url, ASK, seconds=ASK_SECONDS)["workspaceOrError"]
    entries = workspace.get("locationEntries")
    if not entries:
        yield f"no code location: {cause(workspace)}"
        return
    for entry in entries:
        name, state = entry["name"], entry
        if is_reload:
            state = ask(url, RELOAD, seconds=RELOAD_SECONDS, name=name)["reloadRepositoryLocation"]
        error = state.get("locationOrLoadError") or state
        if error.get("__typename") == "PythonError":
            yield f"{name} is not loaded: {cause(error)}"
        elif state.get("loadStatus") != "LOADED":
            yield f"{name} is not loaded: {state.get('loadStatus') or state.get('__typename')}"


def broken_files(url: str) -> Iterator[str]:
    """Yield the tables that are not built because their files are broken, and what is wrong with these."""
    for node in ask(url, ASSETS, seconds=ASK_SECONDS)["assetNodes"]:
        if any(tag["key"] == BROKEN for tag in node["tags"]):
            texts = [entry.get("text", "") for entry in node["metadataEntries"] if entry["label"] == BROKEN]
            yield f"{'.'.join(node['assetKey']['path'])} is broken: {' '.join(texts)}"


def cause(error: Mapping[str, Any]) -> str:
    """Return the error of the code, not Dagster's around it."""
    chain = error.get("errorChain") or []
    return str(chain[-1]["error"]["message"] if chain else error.get("message", "no reason was given")).strip()


def main() -> int:
    """Ask, and say what came of it."""
    parser = argparse.ArgumentParser(description="Is every code location loaded?")
    parser.add_argument("url", help="address of the webserver")
    parser.add_argument("--reload", action="store_true", help="load the code again first")
    options = parser.parse_args()
    try:
        found = list(problems(options.url, is_reload=options.reload))
        if options.reload and not found:
            found = list(broken_files(options.url))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        found = [f"the webserver at {options.url} gave no answer: {error}"]
    sys.stdout.write("\n".join(found) + "\n" if found else "every code location is loaded\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
