"""Verdicts: a requirement, the measured value, and whether it is met."""

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
    """A result and its bound. `stretch` is a goal that need not be met."""

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
        """Return whether the result is within the bound."""
        return _RULES[self.rule](self.result, self.bound)

    def row(self) -> str:
        """Return the verdict as a row of a Markdown table."""
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
    """Return the verdict on the ratio of a value to a named base.

    `beside` is shown next to the measured values, and is not judged.
    """
    name, number = base
    measured = f"{_text(value)} to {_text(number)} {unit}{beside}"
    ratio = value / number if number else nan  # which meets no bound
    return Verdict(point, what, rule, bound, f"x {name}", measured, ratio, stretch)


def limited(point: int, what: str, value: float, rule: str, bound: float, unit: str) -> Verdict:
    """Return the verdict on a value in its own unit."""
    return Verdict(point, what, rule, bound, unit, f"{_text(value)} {unit}", value)


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
