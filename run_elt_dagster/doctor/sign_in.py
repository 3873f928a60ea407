"""What to do about a failed sign-in, by what Snowflake or the connector says of it. Pure."""

from run_elt_dagster.disk import DiskError
from run_elt_dagster.embedded import INSTALL, NotInstalledError
from run_elt_dagster.settings import Settings

ONCE = "Try again only when it is corrected: five failures lock the user for 15 minutes."
_KEY = (
    "Compare the fingerprint of the key with RSA_PUBLIC_KEY_FP in DESC USER, and look at SNOWFLAKE_ACCOUNT, SNOWFLAKE_USER "
    f"and this machine's clock. {ONCE}"
)

# What the error holds, and what to do: the connector gives one number to many causes, so the text tells more.
# https://docs.snowflake.com/en/user-guide/key-pair-auth-troubleshooting
_BY_TEXT = (
    (
        "locked",
        "Wait 15 minutes, or let an administrator set MINS_TO_UNLOCK = 0 on the user; then correct the sign-in.",
    ),
    ("jwt", _KEY),
    ("is not allowed to access", "Add this machine's address to the network policy of the account or the user."),
    ("requested role", "Correct SNOWFLAKE_ROLE, or GRANT ROLE ... TO USER ...."),
    ("role '", "Correct SNOWFLAKE_ROLE, or GRANT ROLE ... TO USER ...."),
    ("multi-factor", "Sign in with a key pair (SNOWFLAKE_PRIVATE_KEY_PATH): a service has no second factor."),
    ("mfa", "Sign in with a key pair (SNOWFLAKE_PRIVATE_KEY_PATH): a service has no second factor."),
    ("incorrect username or password", f"Correct SNOWFLAKE_USER and SNOWFLAKE_PASSWORD. {ONCE}"),
    ("programmatic access token", f"Create a new token, and set SNOWFLAKE_PASSWORD. {ONCE}"),
    ("oauth", f"Renew the token of SNOWFLAKE_TOKEN_FILE_PATH. {ONCE}"),
)
_LOCAL_KEY = (
    "Set SNOWFLAKE_PRIVATE_KEY_PATH or SNOWFLAKE_PRIVATE_KEY to a key in PEM (PKCS8), and SNOWFLAKE_PRIVATE_KEY_PASSWORD to "
    "its password if it is encrypted. Nothing was sent to Snowflake."
)
_UNREACHABLE = (
    "Look at SNOWFLAKE_ACCOUNT (as in myorg-myaccount), the network, and SNOWFLAKE_HOST, SNOWFLAKE_PORT and "
    "SNOWFLAKE_PROTOCOL if they are set."
)


def sign_in_remedy(settings: Settings, error: Exception) -> str:
    """Return the next step after a sign-in that failed."""
    from snowflake.connector.errors import Error  # noqa: PLC0415 - half a second to import, and a failure is rare

    if settings.snowflake is None:
        return _embedded_remedy(error)
    text = str(error).lower()
    if not isinstance(error, Error) or "private key" in text:
        # Before anything is sent, the key is read and parsed.
        return _LOCAL_KEY
    for words, remedy in _BY_TEXT:
        if words in text:
            return remedy
    return _UNREACHABLE


def _embedded_remedy(error: Exception) -> str:
    if isinstance(error, DiskError):
        return "Do what it says."
    if isinstance(error, TimeoutError):
        return "Wait until the other process has ended, then try again."
    if isinstance(error, NotInstalledError):
        return f"Run {INSTALL}; or set the variables of an account, see .env.example."
    return "Set RUN_ELT_EMBEDDED_DIR to a folder that can be written. It holds the embedded Snowflake's data only."
