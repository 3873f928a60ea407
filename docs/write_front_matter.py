"""Write docs/front_matter.md and docs/front_matter.schema.json from the models of `run_elt_dagster.model`: `make docs`."""

import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from run_elt_dagster.model.alert_rule import AlertRule
from run_elt_dagster.model.checks import CHECK_MODELS, Check, Checks, ColumnContract
from run_elt_dagster.model.freshness import FreshWithin
from run_elt_dagster.model.governance import Aggregation, Join, Masking, Policies, RowAccess
from run_elt_dagster.model.increment import Increment
from run_elt_dagster.model.partitions import Partitioning
from run_elt_dagster.model.table import FRONT_MATTER_KEYS, AnalyticsTable

ROOT = Path(__file__).parents[1]
PAGE, SCHEMA = ROOT / "docs" / "front_matter.md", ROOT / "docs" / "front_matter.schema.json"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
# Each is parsed as the front matter of a table by a test, and validated by the schema.
EXAMPLES: Mapping[str, str] = {
    "identifier": """identifier: '"Net sales"'""",
    "description": "description: One row per order, with what it cost in euros.",
    "owner": "owner: team:analytics",
    "business_owner": "business_owner: Jane Doe, Finance",
    "primary_key": "primary_key: [order_id, line]",
    "columns": "columns: {order_id: int, line: int, amount: {type: 'number(10, 2)', description: In euros}}",
    "schema_change": "schema_change: fail",
    "show_rows": "show_rows: 0",
    "tags": "tags: {domain: sales}",
    "publish": "publish: swap",
    "publish_group": "publish_group: finance",
    "transient": "transient: true",
    "cluster_by": "cluster_by: [order_id]",
    "data_retention_days": "data_retention_days: 1",
    "policies": "policies: {row_access: {name: governance.by_order, on: order_id}, masking: {amount: governance.mask_amount}, "
    "projection: {amount: governance.no_amounts}, aggregation: {name: governance.in_groups, entity_key: order_id}, join: governance.joined}",
    "object_tags": "object_tags: {governance.domain: sales}",
    "partitions": "partitions: {by: day, column: ordered_on, start: 2024-01-01, lookback: 2}",
    "increment": "increment: {column: updated_at, key: [order_id], lookback_hours: 3}",
    "warehouse": "warehouse: RUN_ELT_LARGE",
    "fresh_within": "fresh_within: {fail: 26h, warn: 25h}",
    "alerts": "alerts: {channel: C0123456789, owners: [team:finance], severity: notify, quiet: 22:00-07:00 Europe/Berlin, page_after: 3 failures or 2h, receivers: [oncall]}",
    "checks": "checks: {row_count: {min: 1000}, not_null: [order_id]}",
    "upstream": "upstream: [raw_data.orders]",
}
CHECK_EXAMPLES: Mapping[str, Sequence[str]] = {
    "row_count": ["row_count: {min: 1000, max: 1000000}"],
    "row_count_change": ["row_count_change: {max_drop: 50%, max_growth: 200%, min_rows: 100}"],
    "changes": [
        "changes: {key: order_id, max_removed: 1%, max_changed: 100, columns: {revenue: 0.5%}}",
        "changes: {key: order_id, max_changed: 5%, ignore: loaded_at, severity: warn}",
    ],
    "usual": [
        "usual: rows",
        "usual: {rows: true, null_rate: email, distinct: [channel], sum: [revenue], since: 2026-11-20, severity: warn}",
    ],
    "unique": ["unique: email", "unique: [email, [order_id, line]]", "unique: [{columns: email, severity: warn}]"],
    "not_null": ["not_null: [order_id, line]", "not_null: {columns: order_id, severity: warn}"],
    "accepted_values": [
        "accepted_values: {status: [open, paid]}",
        "accepted_values: {status: {values: ['1', '2'], severity: warn}}",
    ],
    "matches": ["matches: {email: '.+@.+'}", r"matches: {email: {pattern: '\w+@\w+', severity: warn}}"],
    "range": ["range: {amount: {min: 0}, day: {min: 2020-01-01, max: 2030-01-01, severity: warn}}"],
    "freshness": ["freshness: {created_at: 36}", "freshness: {created_at: {max_age_hours: 36, max_ahead_hours: 1}}"],
    "source_freshness": [
        "source_freshness: {raw_data.orders: 24}",
        "source_freshness: {raw_data.orders: {max_age_hours: 24, severity: warn}}",
    ],
    "relationship": [
        "relationship: {customer_id: analytics.customers.id}",
        "relationship: {customer_id: {to: analytics.customers.id, severity: warn}}",
    ],
    "sql": [
        "sql: {no_orphans: 'select * from {table} where parent is null'}",
        "sql: {no_orphans: {query: 'select * from {table} where parent is null', severity: warn}}",
    ],
}
HEAD = """# Front matter

<!-- Written by `make docs` from the models of run_elt_dagster/model. -->

The settings of a table stand before its SQL, in YAML between `/* elt` and `elt */`. No key is required. [tables.md](tables.md) explains
them, and [how values are read](tables.md#values-in-yaml). [publishing.md](publishing.md) explains `publish`, [groups.md](groups.md)
`publish_group`, [partitions.md](partitions.md) `partitions`, [increments.md](increments.md) `increment`, [policies.md](policies.md)
`policies` and `object_tags`, and [changes.md](changes.md) the check `changes`.

An unknown key, a key without a value and a value of another kind are errors with file and line. `run-elt lint` prints all of them.

## Keys

"""
EDITORS = """## In an editor

[front_matter.schema.json](front_matter.schema.json) is the JSON Schema of these settings. What it can do today:

| you edit | what works |
| --- | --- |
| the table file | `run-elt lint`, as a task of the editor or as a hook. The settings stand in a comment of SQL. The YAML language server reads whole YAML files only, so it completes nothing there |
| the settings in a file of their own, to paste them afterwards | completion, descriptions and errors while you type, in each editor with the YAML language server. The first line of the file names the schema |
| files that a program writes | any validator of JSON Schema (draft 2020-12) |

The first line of such a file:

```yaml
# yaml-language-server: $schema=front_matter.schema.json
owner: team:analytics
```

The schema knows the keys, the kinds of values and their limits. It does not know SQL, the names of tables and columns, patterns that
Snowflake refuses, or two checks of one name. `run-elt lint` does.

A task for Visual Studio Code, `.vscode/tasks.json`. It turns each problem into a link to its line:

```json
{
  "version": "2.0.0",
  "tasks": [
    {
      "label": "run-elt lint",
      "type": "shell",
      "command": "run-elt lint",
      "problemMatcher": {
        "owner": "run-elt",
        "fileLocation": ["autoDetect", "${workspaceFolder}"],
        "pattern": {"regexp": "^(.+\\\\.sql):(\\\\d+): (.+)$", "file": 1, "line": 2, "message": 3}
      }
    }
  ]
}
```

A hook for [pre-commit](https://pre-commit.com) in a repository of table files. With this project as the repository of the hook:

```yaml
repos:
  - repo: <address of this repository>
    rev: <version>
    hooks:
      - id: run-elt-lint
        args: [--tables-dir, tables]
```

pre-commit installs the project for it once, with its dependencies. If it is installed anyway, take a local hook:

```yaml
repos:
  - repo: local
    hooks:
      - id: run-elt-lint
        name: run-elt lint
        entry: run-elt lint --tables-dir tables
        language: system
        files: \\.sql$
        pass_filenames: false
```
"""


def texts() -> dict[Path, str]:
    """Return what both files must contain."""
    return {PAGE: _page(), SCHEMA: json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"}


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the front matter."""
    made = AnalyticsTable.model_json_schema()
    definitions = {name: _definition(part, _MODELS[name]) for name, part in made["$defs"].items()}
    return {
        "$schema": DRAFT,
        "title": "Front matter of a table file of run_elt_dagster",
        "type": "object",
        "additionalProperties": False,
        "properties": _properties(AnalyticsTable, {key: made["properties"][key] for key in FRONT_MATTER_KEYS}),
        "$defs": definitions,
    }


_MODELS: Mapping[str, type[BaseModel]] = {
    model.__name__: model
    for model in (
        *CHECK_MODELS.values(),
        Checks,
        ColumnContract,
        FreshWithin,
        AlertRule,
        Policies,
        RowAccess,
        Masking,
        Aggregation,
        Join,
        Partitioning,
        Increment,
    )
}
_LIMITS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def _definition(part: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    kept = {key: value for key, value in part.items() if key not in ("title", "description")}
    return {**kept, "description": _summary(model), "properties": _properties(model, part["properties"])}


def _properties(model: type[BaseModel], properties: Mapping[str, Any]) -> dict[str, Any]:
    described = _descriptions(model)
    return {
        name: {**_plain(part, may_be_empty=False), "description": described[name]} for name, part in properties.items()
    }


def _plain(part: Any, *, may_be_empty: bool) -> Any:
    """Return a schema without what pydantic alone reads. A key without a value is an error, but for the type of a column."""
    if isinstance(part, list):
        return [_plain(each, may_be_empty=may_be_empty) for each in part]
    if not isinstance(part, dict):
        return part
    plain = {
        _LIMITS.get(key, key): _plain(value, may_be_empty=may_be_empty or key == "additionalProperties")
        for key, value in part.items()
        if key != "title" and not (key == "default" and (not isinstance(value, str | int | float) or value == ""))
    }
    options = plain.get("anyOf", [])
    if not may_be_empty and {"type": "null"} in options:
        options.remove({"type": "null"})
    if len(options) == 1:
        del plain["anyOf"]
        plain |= options[0]
    return plain


def _descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Return what the docstrings of a model and of its bases say of their fields."""
    found: dict[str, str] = {}
    for each in (*reversed(model.__mro__), model):
        attributes = inspect.cleandoc(each.__dict__.get("__doc__") or "").partition("Attributes:\n")[2]
        for name, text in re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", attributes, re.MULTILINE):
            found[name] = " ".join(text.split())
    checks = {name: _summary(check) for name, check in CHECK_MODELS.items()}
    return {**checks, **found} if "row_count" in model.model_fields else found


def _summary(model: type[BaseModel]) -> str:
    return " ".join(inspect.cleandoc(model.__doc__ or "").partition("\n\n")[0].split())


def _page() -> str:
    made = schema()
    return "".join([HEAD, _table_of_keys(made), *_parts(made), EDITORS])


_IN_PARTS = ("partitions", "increment")


def _table_of_keys(made: Mapping[str, Any]) -> str:
    rows = [
        f"| `{key}` | {made['properties'][key]['description']} | {_kind(part)} | {_default(part)} |"
        for key, part in made["properties"].items()
    ]
    whole = "\n".join(_example(EXAMPLES, key) for key in made["properties"] if key not in _IN_PARTS)
    parts = "".join(f"```yaml\n{_example(EXAMPLES, key)}\n```\n\n" for key in _IN_PARTS)
    return (
        "\n".join(
            [
                "| key | meaning | value | default |",
                "| --- | --- | --- | --- |",
                *rows,
                "",
                "An example of each key of a table that is built whole:",
                "",
            ]
        )
        + f"\n```yaml\n{whole}\n```\n\nA table that is built in parts has one of these keys, and no `publish`:\n\n{parts}"
    )


def _example(examples: Mapping[str, Any], key: str) -> Any:
    if key not in examples:
        raise KeyError(f"docs/write_front_matter.py requires an example for each key, got none for {key}. Add one.")
    return examples[key]


def _parts(made: Mapping[str, Any]) -> Iterator[str]:
    definitions = made["$defs"]
    yield "## columns\n\n" + definitions["ColumnContract"]["description"] + "\n\n"
    yield _options(definitions["ColumnContract"], without=()) + "\n"
    for title, name in _GOVERNING.items():
        level = "##" if name == "Policies" else "###"
        yield f"{level} {title}\n\n{definitions[name]['description']}\n\n{_options(definitions[name], without=())}\n"
    yield f"## partitions\n\n{definitions['Partitioning']['description']}\n\n{_options(definitions['Partitioning'], without=())}\n"
    yield f"## increment\n\n{definitions['Increment']['description']}\n\n{_options(definitions['Increment'], without=())}\n"
    yield "## checks\n\n" + definitions["Checks"]["description"]
    severity = Check.model_json_schema()["properties"]
    yield " Each check takes this key:\n\n"
    yield _options({"properties": _properties(Check, severity)}, without=()) + "\n"
    for name, model in CHECK_MODELS.items():
        examples = ", ".join(f"`{example}`" for example in _example(CHECK_EXAMPLES, name))
        part = definitions[model.__name__]
        options = _options(part, without=("severity",))
        yield f"### {name}\n\n{part['description']}\n\n{options}\nExamples: {examples}.\n\n"


def _options(part: Mapping[str, Any], *, without: Sequence[str]) -> str:
    required = part.get("required", ())
    rows = [
        f"| `{key}` | {option['description']} | {_kind(option)} | {'required' if key in required else _default(option)} |"
        for key, option in part["properties"].items()
        if key not in without
    ]
    return "\n".join(["| key | meaning | value | default |", "| --- | --- | --- | --- |", *rows]) + "\n"


_KINDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "null": "empty",
    "date": "date",
    "date-time": "timestamp",
}


_GOVERNING = {
    "policies": "Policies",
    "row_access": "RowAccess",
    "masking": "Masking",
    "aggregation": "Aggregation",
    "join": "Join",
}
_SECTIONS = {
    "Policies": "policies",
    "RowAccess": "row_access",
    "Masking": "masking",
    "Aggregation": "aggregation",
    "Join": "join",
    "Checks": "checks",
    "Partitioning": "partitions",
    "Increment": "increment",
}


def _kind(part: Mapping[str, Any]) -> str:
    """Return a schema in words."""
    if "anyOf" in part:
        return " or ".join(dict.fromkeys(_kind(option) for option in part["anyOf"]))
    if "$ref" in part:
        return f"[its keys](#{_SECTIONS.get(part['$ref'].rpartition('/')[2], 'columns')})"
    if part["type"] == "array":
        return f"list of {_kind(part['items']).replace('number', 'numbers')}"
    if part["type"] == "object":
        return f"for each name: {_kind(part['additionalProperties'])}"
    return _kind_of_scalar(part)


def _kind_of_scalar(part: Mapping[str, Any]) -> str:
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    if "%" in part.get("pattern", ""):
        return "percentage"
    limits = [f"{word} {part[limit]:g}" for limit, word in _WORDS.items() if limit in part]
    kind = _KINDS[part.get("format", part["type"])]
    return f"{kind}, {' and '.join(limits)}" if limits else kind


_WORDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most"}


def _default(part: Mapping[str, Any]) -> str:
    default = part.get("default")
    if part.get("$ref", "").endswith("/Checks"):
        return f"`row_count: {{min: {Checks().row_count.min}}}`"
    return "none" if default is None else f"`{json.dumps(default).strip(chr(34))}`"


if __name__ == "__main__":
    for path, text in texts().items():
        path.write_text(text, encoding="utf-8")
