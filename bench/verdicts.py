"""Verdicts: what was asked, what was measured, and whether it is met."""

from collections.abc import Callable
from dataclasses import dataclass
from math import nan
from operator import ge, gt, le

HEAD = "| point | asked | measured | result | verdict |\n|--:|---|---|--:|---|"
_RULES: dict[str, Callable[[float, float], bool]] = {
    "at least": ge,
    "at most": le,
    "more than": gt,
}


@dataclass(frozen=True)
class Verdict:
    """A result beside its bound. `stretch` is a bound that is only aimed at."""

    point: int
    what: str
    rule: str  # "at least", "at most" or "more than"
    bound: float
    unit: str  # of the bound, such as "x express" or "MB"
    measured: str
    result: float
    stretch: float | None = None

    @property
    def is_met(self) -> bool:
        """Tell whether the result keeps to the bound."""
        return _RULES[self.rule](self.result, self.bound)

    def row(self) -> str:
        """Write the verdict as a row of Markdown."""
        verdict = "met" if self.is_met else "NOT MET"
        if self.stretch is not None:
            reached = _RULES[self.rule](self.result, self.stretch)
            verdict += f" (stretch {self.stretch:g}: {'reached' if reached else 'not reached'})"
        return (
            f"| {self.point} | {self.what}: {self.rule} {self.bound:.3g} {self.unit} "
            f"| {self.measured} | {self.result:.2f} | {verdict} |"
        )


def compared(
    point: int,
    what: str,
    value: float,
    rule: str,
    bound: float,
    base: tuple[str, float],
    unit: str,
    stretch: float | None = None,
    beside: str = "",
) -> Verdict:
    """Judge how many times a base, given with its name, a value is.

    `beside` is shown with what was measured, and not judged.
    """
    name, number = base
    measured = f"{_text(value)} to {_text(number)} {unit}{beside}"
    ratio = value / number if number else nan  # which keeps to no bound
    return Verdict(point, what, rule, bound, f"x {name}", measured, ratio, stretch)


def limited(point: int, what: str, value: float, rule: str, bound: float, unit: str) -> Verdict:
    """Judge a value in its own unit."""
    return Verdict(point, what, rule, bound, unit, f"{_text(value)} {unit}", value)


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
