import base64
import json
import traceback
from collections.abc import Callable
from functools import partial
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
        "Check user_token: got 0 rows, expected at least 1 row",
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
        "DB.ANALYTICS.USER_SECRET: 1,234 rows with a duplicate key",
        "analytics.user_token: skipped, since analytics.other failed",
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


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        # Nothing announces a name.
        ("password: failed again", "password: [redacted] again"),
        # The sign is one of a value.
        ("table api_key=failed again", "table api_key=[redacted] again"),
        # A word is no sentence, and numbers are none.
        ("check token: failed", "check token: [redacted]"),
        ("check token: 5 7 failed", "check token: [redacted] 7 failed"),
    ],
)
def test_word_after_a_key_is_a_secret_where_no_sentence_about_a_name_follows(text: str, redacted: str) -> None:
    assert redact(text) == redacted


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("https://user:hunter2@host/x", "https://user:[redacted]@host/x"),
        ("Authorization: Bearer hunter2hunter2 end", "Authorization: Bearer [redacted] end"),
        ("password='hunter 2', role=r", "password=[redacted], role=r"),
    ],
)
def test_what_stands_around_a_secret_stays(text: str, redacted: str) -> None:
    assert redact(text) == redacted


def test_secret_of_three_characters_would_tear_words_apart() -> None:
    assert redact("abc abcd", secrets=("abc", "abcd")) == "abc [redacted]"


def test_each_of_several_secrets_is_taken_out() -> None:
    assert redact("canary-a canary-b canary-c", secrets=("canary-a", "canary-b", "canary-c")) == " ".join(
        ["[redacted]"] * 3
    )


def test_longest_form_of_a_secret_is_taken_out_first() -> None:
    assert redact("canary-value", secrets=("canary", "canary-value")) == "[redacted]"


def test_key_is_taken_out_by_its_lines_and_in_one_line() -> None:
    key = "-----BEGIN X-----\nfirst line\n  second line\n-----END X-----"
    escaped = key.replace("\n", "\\n")
    assert redact(f"{escaped} | second line | first line", secrets=(key,)) == "[redacted] | [redacted] | [redacted]"
    assert redact("-----BEGIN X-----", secrets=(key,)) == "-----BEGIN X-----"


def test_secret_that_is_no_text_is_taken_out_as_it_is_and_as_it_is_shown() -> None:
    """An environment may hold bytes that are no UTF-8: Python reads each as half a character, and a message shows `?`."""
    assert redact("a canary\udce4 or canary?", secrets=("canary\udce4",)) == "a [redacted] or [redacted]"


@pytest.mark.parametrize("written", [json.dumps, repr, partial(json.dumps, ensure_ascii=False)])
def test_secret_is_taken_out_of_text_that_escapes_it(written: Callable[[str], str]) -> None:
    secret = "can\"ary\\ä\tvalue'"
    inside = written(secret)[1:-1]
    assert redact(f"<{inside}>", secrets=(secret,)) == "<[redacted]>"


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


def test_number_of_an_error_says_whether_it_is_about_a_row() -> None:
    text = "SQL compilation error:\ninvalid identifier 'A'\ninvalid identifier 'B'"
    assert redact_row_values(text, 904) == text
    assert redact_row_values("cannot reach 'acme'", 250001) == "cannot reach 'acme'"
    assert redact_row_values("cannot reach 'acme'") == "cannot reach '…'"


def test_ordinary_error_stays_as_it_is() -> None:
    text = "SQL compilation error: error line 3 at position 7\nunexpected 'FROM'"
    assert redact_row_values(redact(text, secrets=("abc", ""))) == text


@pytest.mark.parametrize(
    ("length", "limit", "shown"),
    [
        (50, 50, "a" * 25 + "b" * 25),
        (1000, 50, f"{'a' * 14}\n… 1,000 characters in all …\n{'b' * 7}"),
        (60, 50, f"{'a' * 16}\n… 60 characters in all …\n{'b' * 8}"),
        # No room: the text is cut all the same.
        (60, 10, "a\n… 60 cha"),
    ],
)
def test_excerpt_has_twice_as_much_of_the_head(length: int, limit: int, shown: str) -> None:
    assert excerpt("a" * (length // 2) + "b" * (length // 2), limit=limit) == shown


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


def test_exception_keeps_what_is_no_text_and_loses_every_text_with_a_secret() -> None:
    error = ProgrammingError("refused canary-value", errno=390100)
    error.args = (5, "canary-value")
    error.__context__ = ValueError("canary-value")
    redact_exception(error, secrets=["canary-value"])
    assert error.args == (5, "[redacted]")
    assert (error.msg, error.raw_msg) == ("390100: refused [redacted]", "refused [redacted]")
    assert error.__context__.args == ("[redacted]",)


def test_exceptions_that_cause_each_other_are_redacted_once() -> None:
    one, other = ValueError("canary-value"), ValueError("canary-value")
    one.__cause__, other.__cause__ = other, one
    redact_exception(one, secrets=["canary-value"])
    assert (one.args, other.args) == (("[redacted]",), ("[redacted]",))
