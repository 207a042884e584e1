"""Computes the hash of a search space, which does not depend on how numbers are written (1 or 1.0)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sap_core.api import Corrector
from sap_core.identity import content_id
from sweeper.config.component import canonical_value, parse_component
from sweeper.config.search_space import SearchSpace


def space_hash(space: SearchSpace, given: Mapping[str, Any], where: str, plugins: Sequence[str], extra: Mapping[str, Any]) -> str:
    """The hash of a space's domains and of the method's fixed settings.

    Fields that the space searches are left out of the method's identity, so an override that the space replaces does not change the hash.

    Args:
        space: as configured, not shrunk in a smoke run.
        given: the method's fixed settings as configured.
        where: the configuration key that errors name.
        plugins: further packages that `_target_` may name.
        extra: fields that the planner fills in; not part of the hash.

    Raises:
        UserError: a value that its field or its class rejects.
    """
    fields = [domain.field for domain in space.domains]
    first = {domain.field: domain.values[0] for domain in space.domains}
    # Any value of each searched field will do: it completes the component and is left out of its identity.
    method = parse_component({**given, **first}, where, Corrector, plugins, extra)
    # Rows store the hash beside the space's name, so that a report notices rows of an earlier definition of the same space.
    domains = [
        [domain.field, domain.type, [canonical_value(method.target, domain.field, value, where) for value in domain.values]]
        for domain in space.domains
    ]
    return content_id({"method": method.identity([*fields, *extra]), "domains": domains})
