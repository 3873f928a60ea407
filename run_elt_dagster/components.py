"""The component `SqlTables`: a folder of SQL files beside a `defs.yaml` of Dagster.

`dg` finds it in `run_elt_dagster`, by the entry point `dagster_dg_cli.registry_modules`. So its key is `run_elt_dagster.SqlTables`.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import dagster as dg
from pydantic import BaseModel, Field, create_model

from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.library import FolderError, Parts, SqlFolder, build_parts
from run_elt_dagster.orchestration.jobs import DAILY
from run_elt_dagster.settings import AlertSettings, Settings, SnowflakeSettings
from run_elt_dagster.snowflake.injected import SNOWFLAKE_KEY
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster.variables import Variables

EMBEDDED = "embedded"
# A template of one variable of the environment, as in `{{ env.SNOWFLAKE_PASSWORD }}`.
_VARIABLE = re.compile(r"\s*\{\{\s*env(?:\.(\w+)|\(\s*['\"](\w+)['\"]\s*\))\s*\}\}\s*")
FIRST_TABLE = """\
/* elt
description: One row for each day of the last week.
primary_key: day
checks:
  row_count: {min: 7, max: 7}
elt */
select dateadd(day, -seq4(), current_date) as day
from table(generator(rowcount => 7))
"""


def _attributes(name: str, model: type[Variables], fields: Sequence[str]) -> type[BaseModel]:
    """Return a model with the names, types and descriptions of settings; each value may be a template."""
    known = model.model_fields
    described: dict[str, Any] = {
        field: (_plain(known[field].annotation), Field(default=None, description=known[field].description))
        for field in fields
    }
    return create_model(name, __base__=dg.Model, **described)


def _plain(annotation: Any) -> Any:
    """Return the type of a value in YAML; None and a template are allowed for each."""
    return annotation | str | None if annotation in (bool, int, dict[str, str]) else str | int | None


_ACCOUNT = tuple(SnowflakeSettings.model_fields)
_ALERTS = (
    "token",
    "app_token",
    "channel",
    "base_url",
    "owners",
    "webserver_url",
    "runbook_url",
    "heartbeat_url",
    "receivers",
    "own_channels",
    "digest_at",
    "on_cancel",
)
_SETTINGS = (
    *("deployment", "max_concurrent_tables", "statement_timeout_seconds", "answer_timeout_seconds", "copy_tags"),
    *("check_policies", "keep_candidates_hours", "lost_after_seconds", "observe_sources", "embedded_dir", "cache_dir"),
    *("source_url", "production_database", "drop_expired_environments"),
)
Account = _attributes("Account", SnowflakeSettings, _ACCOUNT)
AlertAttributes = _attributes("Alerts", AlertSettings, _ALERTS)
SettingsAttributes = _attributes("Settings", Settings, _SETTINGS)


def _given(context: dg.ResolutionContext, raw: BaseModel) -> dict[str, Any]:
    """Return the attributes that are set. A secret that is one variable of the environment is read when it is needed, and not now.

    The values of resources are on a page of the UI.
    """
    given = {name: value for name, value in raw if value is not None}
    return {name: _variable_of(value) or context.resolve_value(value) for name, value in given.items()}


def _variable_of(value: object) -> dg.EnvVar | None:
    match = _VARIABLE.fullmatch(value) if isinstance(value, str) else None
    return dg.EnvVar(match[1] or match[2]) if match else None


def _read(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes with the variables that no secret is in read: a setting is used while the code location is loaded."""
    return {name: value.get_value() if isinstance(value, dg.EnvVar) else value for name, value in fields.items()}


def _resolve_folder(context: dg.ResolutionContext, raw: str) -> Path:
    """Return the folder below the one of the defs.yaml."""
    base = dg.ComponentLoadContext.from_resolution_context(context).path
    return (base if base.is_dir() else base.parent) / context.resolve_value(raw, as_type=str)


def _resolve_snowflake(context: dg.ResolutionContext, raw: Any) -> Any:
    """Return the resource: the embedded Snowflake, an account, or what a template returns."""
    if isinstance(raw, BaseModel):
        fields = _given(context, raw)
        secrets = {name: value for name, value in fields.items() if name in SnowflakeSettings.secret_fields()}
        return Snowflake(**{**_read(fields), **secrets}, sample_data=False)
    value = context.resolve_value(raw)
    if value == EMBEDDED:
        return Snowflake(sample_data=False)
    if isinstance(value, str):
        raise ValueError(  # noqa: TRY004 - the text of a YAML file is of the right type
            f"snowflake requires `{EMBEDDED}`, an account, or a template that returns a resource, got {value!r}. Nothing was loaded. "
            "Correct it."
        )
    # Another class is an error here, with the line of the file.
    Snowflake.of(value)
    return value


def _resolve_alerts(context: dg.ResolutionContext, raw: Any) -> dict[str, Any]:
    return _given(context, raw)


def _resolve_settings(context: dg.ResolutionContext, raw: Any) -> dict[str, Any]:
    return _read(_given(context, raw))


class SqlTablesScaffolder(dg.Scaffolder):
    """Writes a defs.yaml for the embedded Snowflake, and one SQL file."""

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        """Write both. A file that is there already stays."""
        dg.scaffold_component(request, {"folder": "sql", "snowflake": EMBEDDED})
        table = request.target_path / "sql" / "analytics" / "days.sql"
        table.parent.mkdir(parents=True, exist_ok=True)
        if not table.exists():
            table.write_text(FIRST_TABLE, encoding="utf-8")


def _described(text: str) -> dg.Resolver:
    """Describe an attribute with a default: Dagster 1.13.27 drops the description of its pydantic field."""
    return dg.Resolver.default(description=text)


@dg.scaffold_with(SqlTablesScaffolder)
class SqlTables(dg.Component, dg.Model, dg.Resolvable):
    """Tables in Snowflake, one for each SQL file: built, audited, then published in one atomic exchange.

    A project may have several. The alerts of all are one, and so are `alerts` and `settings`: one of them has them, or all the same ones.
    """

    folder: Annotated[Path, dg.Resolver(_resolve_folder, model_field_type=str)] = Field(
        description="Folder of `<schema>/<table>.sql` files, relative to this file."
    )
    snowflake: Annotated[Any, dg.Resolver(_resolve_snowflake, model_field_type=str | Account)] = Field(  # type: ignore[arg-type]
        description="`embedded`, an account, or a template of a resource of `run_elt_dagster` or `dagster-snowflake`."
    )
    snowflake_key: Annotated[str, _described("Key of the resource.")] = SNOWFLAKE_KEY
    name: Annotated[str, _described("What its jobs are named after. Left out, the place of this file names them.")] = ""
    key_prefix: Annotated[str, _described("What stands before the keys of its assets, as in `finance/warehouse`.")] = ""
    group: Annotated[str | None, _described("Group of its assets; left out, the schema of each table.")] = None
    cron: Annotated[str | None, _described("When all tables are built, in UTC; `null` for no schedule.")] = DAILY
    asset_keys: Annotated[
        dict[str, str],
        _described(
            "Keys of assets that load what the SQL reads, by the table's name: `raw_data.orders: ingest/orders`."
        ),
    ] = Field(default_factory=dict)
    alerts: Annotated[
        dict[str, Any],
        dg.Resolver(
            _resolve_alerts, model_field_type=AlertAttributes, description="Where alerts go, and what they say."
        ),
    ] = Field(default_factory=dict)
    settings: Annotated[
        dict[str, Any],
        dg.Resolver(_resolve_settings, model_field_type=SettingsAttributes, description="How tables are built."),
    ] = Field(default_factory=dict)
    _place: str = ""
    _parts: Parts | None = None

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Return the component, named after its place where it has no name."""
        loaded = super().load(attributes, context)
        inside = context.path.relative_to(context.defs_module_path).with_suffix("")
        loaded._place = re.sub(r"\W", "_", "_".join(inside.parts), flags=re.ASCII)  # noqa: SLF001 - of this class
        return loaded

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the definitions of the folder; those of the alerts are the first one's of the project."""
        components = _all_of_the_project(self, context)
        first = components[0]
        if first._parts is None:  # noqa: SLF001 - of this class
            first._parts = _parts_of(components)  # noqa: SLF001
        parts = first._parts  # noqa: SLF001
        own = parts.folders[self.title].definitions()
        if first is not self:
            return own
        return dg.Definitions.merge(own, parts.alerts.definitions(), dg.Definitions(schedules=parts.environments))

    @property
    def title(self) -> str:
        """Its name: the given one, or its place in the project."""
        return self.name or self._place or self.folder.name

    @property
    def sql_folder(self) -> SqlFolder:
        """The folder as `build_defs` takes it."""
        return SqlFolder(
            self.folder,
            name=self.title,
            key_prefix=self.key_prefix,
            group=self.group,
            cron=self.cron,
            asset_keys=self.asset_keys,
            snowflake=self.snowflake_key,
        )


def _all_of_the_project(component: SqlTables, context: dg.ComponentLoadContext) -> list[SqlTables]:
    """Return the components of the class, always in the same order; the given one alone outside of a project."""
    found = context.component_tree.get_all_components(SqlTables)
    known = found if any(each is component for each in found) else [component]
    return sorted(known, key=lambda each: each.title)


def _parts_of(components: Sequence[SqlTables]) -> Parts:
    alerts, chosen = _agreed(components, "alerts"), _agreed(components, "settings")
    # The token is a resource's, and read when it is needed.
    known = _read({name: value for name, value in alerts.items() if name != "token"})
    settings = Settings(**chosen, alerts=AlertSettings(**known))
    resources: dict[str, Any] = {}
    for each in components:
        resource = _with_settings(each.snowflake, settings)
        known = resources.setdefault(each.snowflake_key, resource)
        if Snowflake.of(known).model_dump() != Snowflake.of(resource).model_dump():
            raise FolderError(
                f"a resource requires a key of its own, got {each.snowflake_key} for two: one is that of {each.folder}. Nothing was loaded. "
                "Set snowflake_key."
            )
    names = {"token_name": "alerts.token of defs.yaml", "channel_name": "alerts.channel of defs.yaml"}
    slack = Slack.to(alerts.get("token"), settings.alerts, **names)
    return build_parts(*(each.sql_folder for each in components), snowflake=resources, slack=slack, settings=settings)


def _with_settings(resource: Any, settings: Settings) -> Any:
    """Return a resource of this project with what the settings say of all sessions."""
    if not isinstance(resource, Snowflake):
        return resource
    names = ("statement_timeout_seconds", "answer_timeout_seconds", "embedded_dir")
    said = {name: getattr(settings, name) for name in names if name in settings.model_fields_set}
    return resource.model_copy(update={name: str(v) if name == "embedded_dir" else v for name, v in said.items()})


def _agreed(components: Sequence[SqlTables], attribute: str) -> dict[str, Any]:
    """Return what the components of a project say of it as a whole.

    Raises:
        FolderError: Two say different things.
    """
    given = [each for each in components if getattr(each, attribute)]
    for each in given[1:]:
        if getattr(each, attribute) != getattr(given[0], attribute):
            raise FolderError(
                f"{attribute} requires to be the same in all components of a project, got others for {given[0].folder} and for "
                f"{each.folder}. Nothing was loaded. Leave it out of all but one."
            )
    return dict(getattr(given[0], attribute)) if given else {}
