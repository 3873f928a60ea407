#!/usr/bin/env bash
# Guess: a resource that gets an EnvVar checks its pydantic constraints and validators when a run
# resolves the variable, against the value.
# What happens: it checks them twice. At the definition, pydantic sees a stand-in: the name of the
# variable for a text, and 0 for EnvVar.int. A constraint that the stand-in breaks is an error
# at import, whatever the variable holds.
# Seen with dagster 1.13.27 and pydantic 2.14.3 (WAREHOUSE=analytics, RETRIES=5):
#   EnvVar.int("RETRIES") for Field(ge=1)   ValidationError, input_value=0
#   EnvVar("WH") for Field(min_length=3)    ValidationError, input_value='WH'
#   a validator of EnvVar("WAREHOUSE")      sees 'WAREHOUSE', then 'analytics'
# What to do: check values in setup_for_execution, or let a validator pass an EnvVar unchecked.
# Nothing that a validator does may be lasting: it also runs on a name.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27 pydantic==2.14.3
cd "$folder"

cat >experiment.py <<'PYTHON'
import os

import dagster as dg
import pydantic

os.environ.update(WAREHOUSE="analytics", WH="analytics", RETRIES="5")
seen = []


class Retrying(dg.ConfigurableResource):
    retries: int = pydantic.Field(ge=1)


class Named(dg.ConfigurableResource):
    warehouse: str = pydantic.Field(min_length=3)


class Watched(dg.ConfigurableResource):
    warehouse: str

    @pydantic.field_validator("warehouse")
    @classmethod
    def watch(cls, value):
        if str.__str__(value) not in seen:
            seen.append(str.__str__(value))
        return value


def refused(make):
    try:
        make()
    except pydantic.ValidationError as error:
        return error.errors()[0]
    return None


def input_of(error):
    """Give what pydantic checked: an EnvVar shows what it stands in as only by its base type."""
    value = error["input"]
    return int.__int__(value) if isinstance(value, int) else str.__str__(value)


number = refused(lambda: Retrying(retries=dg.EnvVar.int("RETRIES")))
text = refused(lambda: Named(warehouse=dg.EnvVar("WH")))
assert number and text, "CHANGED: an EnvVar is not checked at the definition"
print('EnvVar.int("RETRIES") for ge=1:', number["type"], input_of(number))
print('EnvVar("WH") for min_length=3:', text["type"], input_of(text))
assert (number["type"], input_of(number)) == ("greater_than_equal", 0), "CHANGED: another stand-in"
assert (text["type"], input_of(text)) == ("string_too_short", "WH"), "CHANGED: another stand-in"


@dg.asset
def orders(watched: Watched):
    assert watched.warehouse == "analytics"


dg.materialize([orders], resources={"watched": Watched(warehouse=dg.EnvVar("WAREHOUSE"))})
print("the validator saw", seen)
assert seen == ["WAREHOUSE", "analytics"], "CHANGED: the validator sees something else"
PYTHON
timeout 200 venv/bin/python experiment.py 2>error.log || { grep -v -E "DEBUG|INFO" error.log | tail -20 >&2; exit 1; }
