"""The hash of a search space: equal for equal searches, however their numbers are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sap_core.api import Corrector
from sap_core.identity import content_id
from sweeper.config.component import canonical, parse_component
from sweeper.config.search_space import SearchSpace


def space_hash(space: SearchSpace, given: Mapping[str, Any], where: str, plugins: Sequence[str], extra: Mapping[str, Any]) -> str:
    """The id of a space over a method's fixed settings.

    It holds the domains and the identity of the method without the swept fields, so a value that the space replaces does not count.

    Args:
        space: as parsed, at its full size also in a smoke run.
        given: the method's fixed settings as configured.
        where: the key that errors name.
        plugins: further packages that may be named.
        extra: fields that the platform fills in; no part of the hash.

    Raises:
        UserError: a value that its field or its class refuses.
    """
    fields = [domain.field for domain in space.domains]
    first = {domain.field: domain.values[0] for domain in space.domains}
    method = parse_component({**given, **first}, where, Corrector, plugins, extra)
    domains = [
        [domain.field, domain.type, [canonical(method.target, domain.field, value, where) for value in domain.values]]
        for domain in space.domains
    ]
    return content_id({"method": method.identity([*fields, *extra]), "domains": domains})
