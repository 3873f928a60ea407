"""Numbers with what they count, in the singular where there is one. Pure."""


def counted(count: int, many: str, one: str = "") -> str:
    """Return a number with what it counts, as in `1 row` and `2,000 rows`.

    Args:
        count: The number.
        many: What it counts, in the plural.
        one: The same in the singular, where more than the first word differs, as in `alert waits`.
    """
    return f"{count:,} {one or _singular(many)}" if count == 1 else f"{count:,} {many}"


def agreeing(number: str, many: str) -> str:
    """Return a number in words with what it counts, as in `at least 1 row` and `more than 5 rows`."""
    return f"{number} {_singular(many) if number.rpartition(' ')[2] == '1' else many}"


def _singular(many: str) -> str:
    first, space, rest = many.partition(" ")
    first = first.removesuffix("s") if first.isalpha() else first
    return f"{first}{space}{rest.replace('that are', 'that is', 1)}"
