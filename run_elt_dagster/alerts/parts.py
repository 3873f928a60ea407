"""The parts of a tick: each fails by itself, so none keeps the others from being done, and the tick fails at its end."""

import logging
from collections.abc import Generator
from contextlib import contextmanager


class PartsFailedError(Exception):
    """Parts of a tick have failed. The others were done."""


class Parts:
    """What becomes of the parts of one tick.

    Args:
        log: Of the tick.

    Attributes:
        failed: What has failed, a sentence for each, without what an error says: that may be secret.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self.failed: list[str] = []

    @contextmanager
    def part(self, what: str) -> Generator[None]:
        """Let a part fail by itself.

        Args:
            what: It, in words that follow `The look`.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the other parts must not wait for it
            self.failed.append(f"The look {what} fails, got {type(error).__name__}. The log of the sensor says why.")
            self._log.error(f"the look {what} failed, got {type(error).__name__}: {error}", exc_info=True)

    def require_all(self) -> None:
        """Let the tick fail where a part has: the page of the sensors shows it.

        Raises:
            PartsFailedError: One has.
        """
        if self.failed:
            raise PartsFailedError(" ".join(self.failed))
