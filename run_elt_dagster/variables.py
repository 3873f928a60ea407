"""How variables become settings: fields with rules, and what is said of a value that breaks one. It reads no environment."""

import json
import re
from collections.abc import Mapping
from datetime import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar, get_args

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

# https://docs.slack.dev/messaging/formatting-message-text#mentioning-users: users U... or W..., groups S...
_SLACK_ID = re.compile(r"[UWS][A-Z0-9]{2,}")
# A receiver of alerts, and what its address must not set: Apprise's own retries send twice, `optional` turns a failure into a success.
_RECEIVER = re.compile(r"([a-z][a-z0-9_-]{0,29})=([A-Za-z][A-Za-z0-9+.-]*://\S+)")
_NOT_THEIRS = re.compile(r"[?&](?:retry|wait|optional)=|[?&]overflow=split", re.IGNORECASE)


class SettingsError(ValueError):
    """Everything that is wrong with the environment variables, in one error."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        listing = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(
            "the environment cannot be used. Nothing was loaded. Correct these variables (.env.example describes them):"
            f"\n{listing}",
        )


def _address(url: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]+\S*", url):
        raise ValueError("an address that starts with https:// or http://")
    return url


def _secret_address(url: SecretStr) -> SecretStr:
    _address(url.get_secret_value())
    return url


def _receivers(text: SecretStr) -> SecretStr:
    names = list[str]()
    for part in text.get_secret_value().split():
        match = _RECEIVER.fullmatch(part)
        if match is None or match[1] in names:
            raise ValueError("receivers apart by spaces, each with a name of its own, as in `oncall=mailto://...`")
        names.append(match[1])
        if _NOT_THEIRS.search(match[2]):
            raise ValueError(
                "addresses without `retry`, `wait`, `optional` and `overflow=split`: retries are those of the ledger, and a "
                "failure must not look like a success"
            )
    return text


def addresses_of(receivers: SecretStr) -> dict[str, str]:
    """Return the addresses of receivers by their names. They are secrets."""
    parts = receivers.get_secret_value().split()
    return {match[1]: match[2] for part in parts if (match := _RECEIVER.fullmatch(part))}


def _source_address(url: str) -> str:
    _address(url)
    if "{path}" not in url or set(re.findall(r"\{[^}]*\}?|\}", url)) - {"{path}", "{line}"}:
        raise ValueError("an address with {path} in it, maybe {line}, and no other braces")
    return url


def _schema(name: str) -> str:
    if name and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)?", name):
        raise ValueError("a schema without quotes, as in RUN_ELT or OPS.RUN_ELT")
    return name.upper()


def parts_of_time(text: str) -> "tuple[time, ZoneInfo]":
    """Return hour and minute, and the zone, of a time as in `08:00` (UTC) or `08:00 Europe/Berlin`."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415 - only where a time is set

    clock, _, zone = text.strip().partition(" ")
    try:
        # Python takes 08:00:01 too.
        clock = clock if re.fullmatch(r"[0-9]{2}:[0-9]{2}", clock) else ""
        return time.fromisoformat(clock), ZoneInfo(zone.strip() or "UTC")
    except (ValueError, OSError, ZoneInfoNotFoundError) as error:
        raise ValueError("a time of the day with its time zone, as in 08:00 Europe/Berlin; UTC without one") from error


def _time_of_day(text: str) -> str:
    parts_of_time(text)
    return text


def _owners(text: object) -> object:
    """Read JSON from the environment; the constructor takes a mapping."""
    try:
        owners: Any = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        owners = None
    if isinstance(owners, Mapping) and all(isinstance(i, str) and _SLACK_ID.fullmatch(i) for i in owners.values()):
        return owners
    raise ValueError(
        "a JSON object of owners to Slack's ids of users (U...) or groups (S...), as in "
        '{"team:analytics": "S0123456789"}'
    )


Address = Annotated[str, AfterValidator(_address)]
SecretAddress = Annotated[SecretStr, AfterValidator(_secret_address)]
SourceAddress = Annotated[str, AfterValidator(_source_address)]
Receivers = Annotated[SecretStr, AfterValidator(_receivers)]
Schema = Annotated[str, AfterValidator(_schema)]
TimeOfDay = Annotated[str, AfterValidator(_time_of_day)]
Owners = Annotated[dict[str, str], NoDecode, BeforeValidator(_owners)]
Folder = Annotated[Path, AfterValidator(Path.absolute)]


def variable(name: str, description: str, *, shown: str = "", example: str = "", **rules: Any) -> Any:
    """Return a field that one variable sets.

    Args:
        name: Of the variable.
        description: What it means, in Markdown, for docs/settings.md and .env.example.
        shown: The default in words, where the field's own would say too little.
        example: A value for .env.example, where the default is none.
        rules: Default and limits, as `pydantic.Field` takes them.
    """
    rules = rules if "default_factory" in rules else {"default": None, **rules}
    return Field(
        validation_alias=name, description=description, json_schema_extra={"shown": shown, "example": example}, **rules
    )


def _holds_a_secret(annotation: object) -> bool:
    """Return whether a field's value is a secret, also where the type has rules of its own."""
    return annotation is SecretStr or any(map(_holds_a_secret, get_args(annotation)))


class Variables(BaseSettings):
    """Settings that variables set. The constructor takes them by their names here and reads no variable."""

    model_config = SettingsConfigDict(case_sensitive=True, extra="forbid", frozen=True, populate_by_name=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library names the arguments
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the constructor's arguments alone: Dagster's commands have read .env, and `read` names its variables."""
        return (init_settings,)

    @classmethod
    def read(cls, given: Mapping[str, str], **parts: Any) -> Self:
        """Return the settings that variables set.

        Args:
            given: The variables.
            parts: What no variable sets.

        Raises:
            pydantic.ValidationError: A value is wrong.
        """
        source = EnvSettingsSource(cls)
        source.env_vars = given
        values = source()
        # Packed at once: with PYDANTIC_SETTINGS_DEBUG set, pydantic-settings 2.16 logs the values that a constructor gets.
        secrets = {name: SecretStr(values[name]) for name in cls.secret_variables() if name in values}
        return cls(**{**values, **secrets}, **parts)

    @classmethod
    def variables(cls) -> dict[str, FieldInfo]:
        """Return the fields by the names of their variables."""
        fields = cls.model_fields.values()
        return {field.validation_alias: field for field in fields if isinstance(field.validation_alias, str)}

    @classmethod
    def secret_fields(cls) -> tuple[str, ...]:
        """Return the names of the fields that hold a secret."""
        return tuple(name for name, field in cls.model_fields.items() if _holds_a_secret(field.annotation))

    @classmethod
    def secret_variables(cls) -> tuple[str, ...]:
        """Return the names of the variables that hold a secret."""
        return tuple(name for name, field in cls.variables().items() if _holds_a_secret(field.annotation))


Model = TypeVar("Model", bound=Variables)


def read_settings(model: type[Model], given: Mapping[str, str], problems: list[str], **parts: Any) -> Model:
    """Return settings, with the default where a value is wrong, and add to the problems."""
    try:
        return model.read(given, **parts)
    except ValidationError as error:
        wrong = {str(each["loc"][0]): each for each in error.errors()}
    problems += [
        f"{name} requires {_rule(model.variables()[name], each)}, got {_got(model, name, given[name])}."
        for name, each in wrong.items()
    ]
    return model.read({name: value for name, value in given.items() if name not in wrong}, **parts)


def _got(model: type[Variables], name: str, value: str) -> str:
    return "another value: it is a secret and not shown" if name in model.secret_variables() else repr(value)


def _rule(field: FieldInfo, error: Mapping[str, Any]) -> str:
    match error["type"], error.get("ctx", {}):
        case "value_error", {"error": reason}:
            return str(reason)
        case "literal_error", {"expected": expected}:
            return str(expected).replace("'", "")
        case "bool_parsing", _:
            return "true or false"
        case _:
            return f"a whole number from {limits_of(field)}"


def limits_of(field: FieldInfo) -> str:
    """Return the limits of a number in words, as in `1 to 64`; empty if it has none."""
    low = next((limit.ge for limit in field.metadata if hasattr(limit, "ge")), None)
    high = next((limit.le for limit in field.metadata if hasattr(limit, "le")), None)
    return "" if low is None or high is None else f"{low} to {high}"
