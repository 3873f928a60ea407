"""How much a test does of what could go on for ever: RUN_ELT_TESTS_THOROUGH=1 takes minutes more and looks further."""

import os


def effort(*, usual: int, thorough: int) -> int:
    return thorough if os.environ.get("RUN_ELT_TESTS_THOROUGH") else usual
