import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from run_elt_dagster.model.checks import Matches
from run_elt_dagster.model.regular_expression import require_posix


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "",
            ".+@.+",
            r"\d{3}-\d{4}",
            r"[\w.+-]+@[\w-]+\.[a-z]{2,}",
            "^(a|b)*$",
            "[[:alpha:]_]+",
            "[^[:space:]]",
            "[]a-z]",
        ),
        *(
            "[^]]",
            r"[\]]",
            r"[\-a]",
            "[a-]",
            "[+--]",
            "é+",
            r"a{2}b{2,}c{2,5}",
            r"\.\*\_\(",
            r"\bx\B",
            "()",
            "(|a)",
            "a{b}",
        ),
    ],
)
def test_pattern_of_posix_is_accepted(pattern: str) -> None:
    assert Matches(pattern=pattern).pattern == pattern


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("ab(?=c)", "cannot have a lookahead, got '(?=' at character 3"),
        ("(?!a).*", "cannot have a negative lookahead"),
        ("(?<=a)b", "cannot have a lookbehind"),
        ("(?<!a)b", "cannot have a negative lookbehind"),
        (
            "(?:ab)+",
            "cannot have a group that is not captured, got '(?:' at character 1. Snowflake takes POSIX patterns. Write (",
        ),
        ("(?P<x>a)", "cannot have a named group"),
        ("(?<x>a)", "cannot have a named group"),
        ("(?P=x)", "cannot have a named group"),
        ("(?i)a", "cannot have a flag, got '(?i)'"),
        ("(?i:a)", "cannot have a flag"),
        ("(?>a)", "cannot have an atomic group"),
        ("(?#a)", "cannot have a comment"),
        ("a*?", "cannot have a non-greedy quantifier, got '*?' at character 2"),
        ("a{2}?", "cannot have a non-greedy quantifier"),
        ("a++", "cannot have a possessive quantifier"),
        ("a**", "cannot have two quantifiers in a row"),
        (r"(a)\1", "cannot have a back-reference"),
        (r"\p{L}", r"cannot have \p in"),
        (r"\Aa\Z", r"cannot have \A in"),
        (r"[\b]", r"cannot have \b in"),
        (r"\x41", r"cannot have \x in"),
        ("[[:alfa:]]", "requires a class of POSIX's"),
        ("[[:<:]]a", "requires a class of POSIX's"),
        ("[a[:b-c:]]", "requires a class of POSIX's"),
        ("[[.a.]]", "cannot have a collating element"),
        ("[z-a]", "requires ranges that ascend, got z-a"),
        ("[^a-\\d]", "requires a sign at the end of a range, got a-\\d"),
        ("[\\d-a-\\w]", "requires a sign at the end of a range, got a-\\w"),
        ("[!-[:alpha:]]", "requires a sign at the end of a range, got !-[:alpha:]"),
        ("[a", "requires a ] for every ["),
        ("[]", "requires a ] for every ["),
        ("(a", r"requires a \) for every \("),
        ("a)", r"requires a \( for every \)"),
        ("*a", "requires something to repeat"),
        ("a|+", "requires something to repeat"),
        ("a\\", "requires a sign behind a backslash"),
        ("a{1001}", "requires a repetition as"),
        ("a{3,2}", "requires a repetition as"),
        ("\b[0-9]", "cannot have a control character, got '\\x08' at character 1"),
        ("a{,3}", "requires a repetition as"),
    ],
)
def test_pattern_that_snowflake_does_not_take_is_refused_with_the_construct(pattern: str, says: str) -> None:
    with pytest.raises(ValueError, match=r"requires|cannot") as caught:
        require_posix(pattern)
    assert says.replace("\\)", ")").replace("\\(", "(") in str(caught.value)


@settings(max_examples=500, deadline=None)
@given(
    pattern=st.lists(
        st.sampled_from(
            [*"ab01^$|()[]{}*+?.,-\\:dwsbn_!=<PZz ", "[[:alpha:]]", "[^", "(?", "\\d", "{2}", "{1,3}", "[a-z]"]
        ),
        max_size=8,
    ).map("".join)
)
def test_accepted_pattern_is_one_that_the_embedded_engine_takes_too(pattern: str) -> None:
    try:
        require_posix(pattern)
    except ValueError:
        return
    duckdb.execute("select regexp_full_match('a', ?)", [pattern]).fetchall()
