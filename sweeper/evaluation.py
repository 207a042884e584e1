"""How the settings of a family are scored: all of them on everything (full), or as far as the choice needs (race)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sap_core.errors import UserError, unknown
from sap_core.records import RACE_RULES

if TYPE_CHECKING:
    from sap_core.data.source import DataSet

NAMES = ("full", "race")


@dataclass
class Evaluation:
    """conf/evaluation."""

    name: str = "full"
    rule: str | None = None

    def check(self) -> None:
        """Raises UserError for a name that does not exist, or a rule that does not go with it."""
        if self.name not in NAMES:
            raise unknown("name", self.name, NAMES, "evaluation")
        if self.name == "full" and self.rule is not None:
            raise UserError(
                f"evaluation.rule={self.rule} says what a race counts, but evaluation=full scores everything; use evaluation=race"
            )
        if self.name == "race" and self.rule not in RACE_RULES:
            raise unknown("rule", str(self.rule), RACE_RULES, "evaluation")

    def check_dataset(self, name: str, dataset: DataSet) -> None:
        """Raises UserError where a data set has nothing to count."""
        if self.name == "race" and dataset.kind == "regression":
            raise UserError(f"evaluation=race counts right answers, but dataset={name} is a regression; use evaluation=full")
        if self.rule == "val_clean_part" and not dataset.truth_known:
            raise UserError(
                f"evaluation.rule=val_clean_part counts validation images whose label is true, but the true labels of dataset={name} "
                f"are unknown; use evaluation.rule=val_noisy"
            )

    @property
    def columns(self) -> dict[str, Any]:
        """What rows say of it."""
        return {"evaluation": self.name, "race_rule": self.rule}

    @property
    def identity(self) -> dict[str, Any]:
        """What enters the ids of tuned settings: nothing when full, so that a race never passes for a full run."""
        return {} if self.name == "full" else {"evaluation": {"name": self.name, "rule": self.rule}}
