"""The settings classes behind a table's `type`. Only the types that a config uses are imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import NamedTuple

from agent.config.messages import one_of, quoted, shown_name
from agent.config.unfit import Unfit
from agent.core.errors import KeyturnError
from agent.core.settings import NotifierSettings, ProviderSettings, SinkSettings
from agent.core.text import nearest

Catalogue = Mapping[str, Callable[[], type]]
"""Type name -> a function that imports the class and returns its `Settings` dataclass."""


@dataclass(frozen=True)
class Registry:
    """The types that a config may use. `agent.app.wiring` fills it; nothing is imported before it is named."""

    providers: Catalogue = field(default_factory=dict)
    sinks: Catalogue = field(default_factory=dict)
    notifiers: Catalogue = field(default_factory=dict)
    inner: tuple[Family, ...] = ()  # of tables inside of those, such as the files of a directory

    def family(self, root: object) -> Family | None:
        """Return the family whose root class stands in an annotation."""
        families = (
            Family("provider", ProviderSettings, self.providers),
            Family("sink", SinkSettings, self.sinks),
            Family("notifier", NotifierSettings, self.notifiers),
            *self.inner,
        )
        return next((family for family in families if family.root is root), None)


class Family(NamedTuple):
    """A family of tables with a `type`: the operator's word for them, their root class, the known types."""

    word: str
    root: type
    types: Catalogue


def settings_class(family: Family, name: str) -> type:
    """Return the settings class for one type name.

    Raises:
        Unfit: there is no such type, or what should bring it is broken (a third party's package).
    """
    word = family.word
    if name not in family.types:
        near = nearest(name, family.types)
        hint = f"did you mean {quoted(near)}?" if near else one_of(family.types)
        raise Unfit(f"there is no {word} of type {shown_name(name)}; {hint}")
    try:
        found = family.types[name]()
    except KeyturnError as error:
        raise Unfit(str(error)) from error
    except (Exception, SystemExit) as error:
        raise Unfit(
            f"the {word} {name} cannot be loaded ({type(error).__name__}); reinstall the package that brings it"
        ) from error
    if not (isinstance(found, type) and is_dataclass(found) and issubclass(found, family.root)):
        raise Unfit(
            f"the {word} {name} brings no dataclass derived from {family.root.__name__}; report it to its author"
        )
    return found
