"""The chart and the ratios in the documents match the last run in bench/README.md."""

import re

import pytest

from bench.draw_chart import CHART, REQUESTS, SERVERS, draw, read_rates, write_chart
from tests.support.server_process import CHECKOUT

LAST_RUN = (CHECKOUT / "bench" / "README.md").read_text(encoding="utf-8")
CLAIM = re.compile(r"(\d\.\d+) to (\d\.\d+)\s+times\s+(Express|FastAPI|the bare server)")
PEERS = {"Express": "express", "FastAPI": "fastapi", "the bare server": "aiopg_fair"}


def test_the_chart_is_that_of_the_last_run() -> None:
    assert CHART.read_text(encoding="utf-8") == write_chart()


def test_every_rate_has_its_bar_and_its_number() -> None:
    rates = {
        (request, server): 100.0 * (row * len(SERVERS) + place + 1)
        for row, request in enumerate(REQUESTS)
        for place, server in enumerate(SERVERS)
    }
    chart = draw(rates)
    bars = re.findall(r'class="(\w+)" x="130" y="\d+" width="(\d+)"', chart)
    assert [server for server, _ in bars] == [*SERVERS] * len(REQUESTS)
    lengths = [int(width) for _, width in bars]
    assert lengths == [pytest.approx(rate / 1600 * lengths[-1], abs=1) for rate in rates.values()]
    assert all(f">{rate:,.0f}</text>" in chart for rate in rates.values())


def test_only_the_requests_of_32_connections_are_drawn() -> None:
    assert set(read_rates(LAST_RUN)) == {
        (request, server) for request in REQUESTS for server in SERVERS
    }


def test_the_first_sentence_about_performance_has_the_rates_of_the_last_run() -> None:
    page = (CHECKOUT / "docs" / "performance.md").read_text(encoding="utf-8")
    rates = read_rates(LAST_RUN)
    said = re.findall(r"\d,\d{3}", page.partition(". In the last")[0])
    assert said == [f"{rates[request, 'taskapp']:,.0f}" for request in REQUESTS]


@pytest.mark.parametrize(("page", "claims"), [("README.md", 2), ("docs/performance.md", 3)])
def test_the_last_run_is_within_the_ratios_that_a_page_claims(page: str, claims: int) -> None:
    found = CLAIM.findall((CHECKOUT / page).read_text(encoding="utf-8"))
    assert len(found) == claims
    for low, high, name in found:
        verdict = rf"^\| 1 \| .* x {PEERS[name]} \| .* \| (\d+\.\d+) \|"
        ratios = [float(ratio) for ratio in re.findall(verdict, LAST_RUN, re.MULTILINE)]
        assert len(ratios) == 8
        digits = len(low.partition(".")[2])
        assert float(low) <= round(min(ratios), digits)
        assert round(max(ratios), digits) <= float(high)
