"""How much a test does of what could go on for ever: RUN_ELT_TESTS_THOROUGH=1 takes minutes more and looks further."""

import os

# How long a test waits for what is bound to happen, on a machine that does ten other things as well: only a failure takes so
# long. Where a test waits, it waits for an event and not for a time.
PATIENCE_SECONDS = 240


def effort(*, usual: int, thorough: int) -> int:
    return thorough if os.environ.get("RUN_ELT_TESTS_THOROUGH") else usual
