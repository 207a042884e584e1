"""The result of `correct`: the network, and what was found about it, in numbers, as a table and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from sap_core.mcnemar import LEVEL, McNemarTest

# Only for annotations: the library needs pandas for tables alone.
if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, eq=False, repr=False)
class Correction:
    """A corrected network, and the search that selected it. `print` shows it in words.

    Attributes:
        model: the network corrected with `alpha`, or a copy of the unmodified one if `alpha` is None.
        alpha: the alpha with the highest validation accuracy, or None if none has a higher one than the unmodified network; the larger
            alpha wins ties.
        unmodified: validation accuracy of the unmodified network, in [0, 1], on the given labels.
        scores: validation accuracy by alpha, largest alpha first.
        newly_right: number of validation images by alpha whose given label the corrected network predicts and the unmodified does not.
        newly_wrong: the reverse.
        num_val: number of validation images.
        trusted_indices: (num_trusted,) int64 positions of the trusted images in the training data set, most trusted first.
        trusted_per_class: number of trusted images of each class, by given label.
        num_train: number of training images.
        seconds: time of the whole search.
        device: where the network was.
    """

    model: nn.Module
    alpha: float | None
    unmodified: float
    scores: Mapping[float, float]
    newly_right: Mapping[float, int]
    newly_wrong: Mapping[float, int]
    num_val: int
    trusted_indices: Tensor
    trusted_per_class: tuple[int, ...]
    num_train: int
    seconds: float
    device: str

    @property
    def improved(self) -> bool:
        """Whether an alpha has a higher validation accuracy than the unmodified network; by chance or not is said by `significant`."""
        return self.alpha is not None

    @property
    def num_settings(self) -> int:
        """The number of alphas tried, for which `p_value` is corrected."""
        return len(self.scores)

    @property
    def p_value(self) -> float:
        """The p-value of the exact one-sided McNemar test of the best alpha, corrected (Bonferroni) for the number of alphas."""
        return self.test(self.best).p_value

    @property
    def significant(self) -> bool:
        """Whether `p_value` is at most 0.05."""
        return self.test(self.best).significant

    @property
    def best(self) -> float:
        """The alpha with the highest validation accuracy, whether or not the unmodified network has a higher one."""
        return max(self.scores, key=lambda alpha: (self.scores[alpha], alpha))

    def test(self, alpha: float) -> McNemarTest:
        """Return the exact test of one alpha against the unmodified network, corrected for the number of alphas."""
        return McNemarTest(self.newly_wrong[alpha], self.newly_right[alpha], self.num_val, self.num_settings)

    def to_frame(self) -> DataFrame:
        """Return a pandas frame with the unmodified network (alpha is NaN) in the first row and one row per alpha, largest first.

        Columns: alpha, accuracy, newly_right, newly_wrong, p_value (corrected as `p_value` is) and chosen.
        """
        # Imported here, because the library must not need pandas when it is imported.
        from pandas import DataFrame

        unmodified = {"alpha": float("nan"), "accuracy": self.unmodified, "newly_right": 0, "newly_wrong": 0, "p_value": float("nan")}
        rows = [
            {
                "alpha": alpha,
                "accuracy": accuracy,
                "newly_right": self.newly_right[alpha],
                "newly_wrong": self.newly_wrong[alpha],
                "p_value": self.test(alpha).p_value,
                "chosen": alpha == self.alpha,
            }
            for alpha, accuracy in self.scores.items()
        ]
        return DataFrame([unmodified | {"chosen": not self.improved}, *rows])

    def __str__(self) -> str:
        return "\n".join((self._verdict(), self._test(), self._trusted(), self._tried()))

    __repr__ = __str__

    def _verdict(self) -> str:
        best, score = f"{self.best:g}", _percent(self.scores[self.best])
        if not self.improved:
            return (
                f"No alpha is better than the unmodified network, whose validation accuracy is {_percent(self.unmodified)} "
                f"(alpha={best}: {score}). result.model is an unmodified copy."
            )
        if self.significant:
            return f"SAP with alpha={best} is better: validation accuracy {score} instead of {_percent(self.unmodified)}. Use result.model."
        return (
            f"SAP with alpha={best} has validation accuracy {score} instead of {_percent(self.unmodified)}, which may be chance: keep the "
            "unmodified network (result.model is the corrected one)."
        )

    def _test(self) -> str:
        test = self.test(self.best)
        counts = f"Of {_counted(self.num_val, 'validation image')}, {test.newly_right} became right and {test.newly_wrong} became wrong"
        if not self.improved:
            return f"{counts} with alpha={self.best:g}."
        p = f"p = {test.p_value:.2g}" if test.p_value >= 1e-4 else "p < 0.0001"
        size = f"{'' if test.significant else 'not '}significant at {LEVEL:g}"
        needed = test.samples_needed
        more = f"; about {needed} validation images would decide" if not test.significant and needed is not None else ""
        of = f"corrected for {_counted(self.num_settings, 'alpha')}"
        return f"{counts}: {p} (exact one-sided test, {of}), {size}{more}."

    def _trusted(self) -> str:
        few, many = min(self.trusted_per_class), max(self.trusted_per_class)
        each = f"{few}" if few == many else f"{few} to {many}"
        return (
            f"Trusted: the {_counted(len(self.trusted_indices), 'image')} of {self.num_train} with the lowest loss, {each} of each of "
            f"{len(self.trusted_per_class)} classes{self._absent()}."
        )

    def _absent(self) -> str:
        """The classes without trusted images, whose features a correction may remove."""
        none = [str(label) for label, count in enumerate(self.trusted_per_class) if count == 0]
        if not none:
            return ""
        # Of a thousand classes most may be without.
        listed = ", ".join(none[:10]) + (", ..." if len(none) > 10 else "")
        return f"; none of {'class' if len(none) == 1 else 'classes'} {listed}: try class_balanced=True"

    def _tried(self) -> str:
        low, high = min(self.scores), max(self.scores)
        tried = f"Tried: {_counted(self.num_settings, 'alpha')}" + (f" from {low:g} to {high:g}" if low < high else f", {low:g}")
        edge = {low: "smallest", high: "largest"}.get(self.best) if self.improved and low < high else None
        wider = f" The best is the {edge}; {'smaller' if edge == 'smallest' else 'larger'} ones may be better." if edge else ""
        return f"{tried}, in {self.seconds:.1f} seconds on {self.device}.{wider}"


def _percent(accuracy: float) -> str:
    return f"{100 * accuracy:.2f} %"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
