import base64
import traceback
from urllib.parse import quote

import pytest
from snowflake.connector.errors import ProgrammingError

from run_elt_dagster.redaction import excerpt, redact, redact_exception, redact_row_values
from run_elt_dagster.settings import SECRET_VARIABLES, secret_values

# Put together here, or scanners would take these lines for leaks.
SLACK_TOKEN = "xox" + "b-1234567890-abcdefghij"
JWT = "ey" + "JhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
AWS_KEY = "AKI" + "A0123456789ABCDEF"
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqh\nkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize(
    "secret", [SLACK_TOKEN, JWT, AWS_KEY, PEM, PEM[:50], "https://hooks.slack.com/services/T/B/x"], ids=lambda s: s[:5]
)
def test_secret_of_a_known_form_is_taken_out(secret: str) -> None:
    text = redact(f"before {secret} after")
    assert text.startswith("before [redacted]")
    assert secret[8:] not in text


@pytest.mark.parametrize(
    "text",
    [
        "https://user:hunter2@host/x",
        "password=hunter2",
        "PASSWORD = 'hunter2'",
        '"api_key": "hunter2"',
        "AWS_SECRET_KEY='x' aws_secret_token=hunter2",
        "Authorization: Bearer hunter2hunter2",
        "credentials=(aws_key_id='hunter2')",
    ],
)
def test_named_secret_is_taken_out(text: str) -> None:
    assert "hunter2" not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "Check user_token: got 0 rows, expected at least 1 rows",
        "analytics.user_token was not published: check row_count found 0 rows",
        "analytics.user_token: invalid identifier 'X'",
        "analytics.api_key: column X is new",
        "DB.ANALYTICS.USER_SECRET: 3 rows with a duplicate key",
        "check api_key: got 5 rows, expected exactly 0 rows",
        "analytics.user_token: Schema 'X' does not exist or not authorized.",
        "analytics.user_token: DB.ANALYTICS.USER_TOKEN belongs to another role",
        "analytics.user_token: Snowflake reported its publishing as failed",
        "invalid identifier 'API_KEY'",
        "Object 'A.USER_TOKEN' does not exist or not authorized.",
        "analytics.password_hash: check unique_password_hash found 3 rows",
    ],
)
def test_table_or_column_that_is_called_like_a_secret_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "password: hunter2",
        "snowflake.password: hunter2",
        "snowflake.password: hunter2 and more",
        "check token: hunter2",
        "table password=hunter2",
        "column api_key: 'got hunter2'",
        "analytics.user_token=hunter2",
        "token: got-hunter2",
    ],
)
def test_secret_goes_wherever_it_stands(text: str) -> None:
    assert "hunter2" not in redact(text)


def test_value_of_a_secret_setting_is_taken_out_in_every_form() -> None:
    secret = "p/ss w:rd+1"
    encoded = base64.b64encode(secret.encode()).decode()
    text = redact(f"{secret} | {quote(secret, safe='')} | {encoded}", secrets=(secret,))
    assert text == "[redacted] | [redacted] | [redacted]"
    lines = redact("error near kiG9w0BAQEFAASC", secrets=(PEM,))
    assert lines == "error near [redacted]"


def test_secret_settings_are_all_known() -> None:
    assert secret_values({name: f"value of {name}" for name in SECRET_VARIABLES}) == tuple(
        f"value of {name}" for name in SECRET_VARIABLES
    )


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        ("Numeric value 'Jane Doe' is not recognized", "Numeric value '…' is not recognized"),
        ("Date 'Jane Doe' is not recognized", "Date '…' is not recognized"),
        ("String 'Jane Doe' is too long and would be truncated", "String '…' is too long and would be truncated"),
        (
            "Duplicate row detected during DML action\nRow Values: [1, Jane Doe]",
            "Duplicate row detected during DML action\nRow Values: …",
        ),
        ("Failed to cast variant value Jane Doe to FIXED", "Failed to cast variant value … to FIXED"),
        ("Error parsing JSON: Jane Doe", "Error parsing JSON: …"),
        ("invalid identifier 'MONTH'", "invalid identifier 'MONTH'"),
        (
            "Object 'DB.RAW_DATA.NOWHERE' does not exist or not authorized.",
            "Object 'DB.RAW_DATA.NOWHERE' does not exist or not authorized.",
        ),
        (
            "Number out of representable range: type FIXED, value 42.5",
            "Number out of representable range: type FIXED, value …",
        ),
    ],
)
def test_row_value_is_taken_out_and_a_name_stays(error: str, kept: str) -> None:
    assert redact_row_values(error) == kept


def test_ordinary_error_stays_as_it_is() -> None:
    text = "SQL compilation error: error line 3 at position 7\nunexpected 'FROM'"
    assert redact_row_values(redact(text, secrets=("abc", ""))) == text


def test_excerpt_keeps_head_and_tail() -> None:
    text = excerpt("start" + "x" * 5000 + "end", limit=200)
    assert len(text) <= 200
    assert text.startswith("start")
    assert text.endswith("end")


def test_exception_is_redacted_with_its_causes_and_keeps_its_type() -> None:
    error = ValueError("no session for canary-value")
    error.__cause__ = ProgrammingError("refused canary-value", errno=390100)
    redact_exception(error, secrets=["canary-value"])
    text = "".join(traceback.format_exception(error))
    assert "ProgrammingError: 390100" in text
    assert "ValueError: no session for" in text
    assert "canary-value" not in text
