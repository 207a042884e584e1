"""Refuses two component classes with the same kind, package and name, which ids could not tell apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sap_core.components import name_of, package_of
from sap_core.construct import locate
from sap_core.errors import UserError
from sweeper.plan.cell import Cell


def refuse_name_clashes(components: Iterable[tuple[str, str]]) -> None:
    """Compare all components, given as (kind, dotted path).

    Raises:
        UserError: two different classes have the same kind, package and name.
    """
    owners: dict[tuple[str, str | None, str], str] = {}
    for kind, target in dict.fromkeys(components):
        package, name = package_of(target), name_of(target)
        owner = owners.setdefault((kind, package, name), target)
        # One class may have two dotted paths (re-exported by its package), which is no clash.
        if locate(owner) is not locate(target):
            raise UserError(
                f"{owner} and {target} are two components of kind '{kind}' with the name '{name}', so ids could not tell them apart; "
                f'rename one of them, as in name: ClassVar[str] = "..." in the body of the class'
            )


def components_of(cells: Iterable[Cell]) -> Iterator[tuple[str, str]]:
    """(kind, dotted path) of every component of the cells, with nested components and samplers."""
    for cell in cells:
        chosen = [cell.dataset, cell.noise, cell.model, cell.trainer, cell.pruner, cell.warmup and cell.warmup.trainer]
        methods = [*(search.settings[0] for search in cell.searches), *(search.target.base for search in cell.trial_searches)]
        # All settings of a search have one class, so its first setting represents the others.
        for component in (*chosen, *methods):
            yield from component.components if component else ()
        yield from (("sampler", search.sampler["target"]) for search in cell.trial_searches if search.sampler)
