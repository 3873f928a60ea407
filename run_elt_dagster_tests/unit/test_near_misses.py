import pytest

from run_elt_dagster.model.near_misses import NearMisses

DECLARED = [
    ("analytics", "a"),
    ("analytics", "mau_summary"),
    ("analytics", "channel_summary"),
    ("analytics", "orders_2025"),
    ("analytics", '"Net sales"'),
    ("core", "users"),
]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("analytics.aa", "analytics.a"),
        ("analytics.mau_sumary", "analytics.mau_summary"),
        ("analytics.mau_sumamry", "analytics.mau_summary"),
        ("analytics.mausummary", "analytics.mau_summary"),
        ("analytics.chanel_sumary", "analytics.channel_summary"),
        ("analytics.order_2025", "analytics.orders_2025"),
        ('analytics."mau_summary"', "analytics.mau_summary"),
        ('analytics."net sales"', 'analytics."Net sales"'),
        ("core.user", "core.users"),
        ("analytic.mau_summary", "analytics.mau_summary"),
        ("analitycs.mau_summary", "analytics.mau_summary"),
        ("corw.users", "core.users"),
        ("analytic.mau_sumary", "analytics.mau_summary"),
    ],
)
def test_slip_in_a_name_offers_the_declared_table(written: str, meant: str) -> None:
    found = NearMisses(DECLARED).of(tuple(written.split(".")))
    assert found == tuple(meant.split("."))


@pytest.mark.parametrize(
    "written",
    [
        # Names of their own: another letter in a short one, another number, another word.
        "analytics.b",
        "analytics.orders_2024",
        "analytics.orders",
        "analytics.mau",
        "analytics.mau_detail",
        "analytics.summary_mau",
        # Another schema, and a short one.
        "raw_data.mau_summary",
        "cor.users",
        "prod.analytics.aa",
    ],
)
def test_name_of_its_own_offers_nothing(written: str) -> None:
    assert NearMisses(DECLARED).of(tuple(written.split("."))) is None
