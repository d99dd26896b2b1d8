"""What a check of configs reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Finding:
    """One thing that is, or may be, wrong.

    Attributes:
        level: 'error', 'warning' or 'note'.
        where: Dotted path in the config.
        message: What is wrong and what would be right.
        stops: Whether training refuses to start; a variable without effect is only reported there.
    """

    level: str
    where: str
    message: str
    stops: bool = True

    def __str__(self) -> str:
        return f'{self.level}: {self.where}: {self.message}'
