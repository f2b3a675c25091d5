"""The conversion of the file's tree into settings classes, by their annotations; a problem does not stop it.

A part that does not fit becomes `FAILED` and is reported. Its siblings are converted all the same, and every
table that could be built is kept in `built` with its place, so that the rules of `checks` also see the sound
parts of a broken file.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType, UnionType
from typing import Any, Final, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from agent.config import scalars
from agent.config.messages import (
    KNOWN_NOWHERE,
    Report,
    either,
    got,
    inner_place,
    one_of,
    quoted,
    shown_value,
)
from agent.config.registry import Family, Registry, settings_class
from agent.config.unfit import Unfit
from agent.core.problem import Place
from agent.core.settings import Duration, FileMode, ProviderSettings
from agent.core.text import nearest

FAILED: Final = object()
"""The result for a part that was reported and has no value."""

_ARRAYS = (list, tuple, Sequence)
_TABLES = (dict, Mapping)
_WRITTEN_AS_STRINGS = (str, Duration, FileMode)
_NUMBERS: tuple[tuple[type, tuple[type, ...]], ...] = ((bool, (bool,)), (int, (int,)), (float, (int, float)))
"""The TOML scalars that each type accepts inside a union: true is no integer."""


class Built(NamedTuple):
    """A settings object and its place in the file. One that is not whole lacks the keys that did not fit."""

    place: Place
    settings: Any
    whole: bool = True


class Reference(NamedTuple):
    """A use of another credential by its name."""

    place: Place
    name: str


class Walker:
    """The converter of one file. Besides the value it leaves `built` and `references` behind."""

    def __init__(self, registry: Registry, environ: Mapping[str, str], report: Report) -> None:
        self._registry = registry
        self._environ = environ
        self._report = report
        self.built: list[Built] = []
        self.references: list[Reference] = []
        self._open: list[tuple[Place, Mapping[str, Any]]] = []  # the tables around what is converted, and their keys

    def convert(self, raw: Any, annotation: Any, place: Place) -> Any:
        """Return the value for one part of the tree, or `FAILED` when a problem was reported instead."""
        arms = _arms(annotation)
        try:
            fitting = arms if len(arms) == 1 else [arm for arm in arms if self._accepts(arm, raw)]
            if not fitting:
                hint = _hints_module().no_array(raw, place, of_tables=False) if any(map(_is_array, arms)) else ""
                raise Unfit(f"want {either(_words(arm) for arm in arms)}, {got(raw, place)}{hint}")
            if isinstance(raw, str) and ProviderSettings in arms and str in arms:
                self.references.append(Reference(place, raw))
            return self._scalar(raw, fitting, place) if len(fitting) > 1 else self._arm(raw, fitting[0], place)
        except Unfit as unfit:
            self._report.add(place, str(unfit))
            return FAILED

    def _accepts(self, arm: Any, raw: Any) -> bool:
        if arm is Any:
            return True
        if _is_table(arm) or isinstance(raw, dict):
            return _is_table(arm) and isinstance(raw, dict)
        if _is_array(arm) or isinstance(raw, list):
            return _is_array(arm) and isinstance(raw, list)
        if isinstance(arm, type) and issubclass(arm, _WRITTEN_AS_STRINGS):
            return isinstance(raw, str)
        return next((type(raw) in taken for number, taken in _NUMBERS if arm is number), True)

    def _scalar(self, raw: Any, arms: Sequence[Any], place: Place) -> Any:
        """Convert by the first member of a union that accepts the value; otherwise report the first one's sentence."""
        refusals: list[Unfit] = []
        for arm in arms:
            try:
                return scalars.convert(raw, arm, place, self._environ)
            except Unfit as unfit:
                refusals.append(unfit)
        raise refusals[0]

    def _arm(self, raw: Any, arm: Any, place: Place) -> Any:
        if arm is Any:
            return frozen(raw)
        if family := self._registry.family(arm):
            return self._table(raw, self._class_for(raw, family, place), place)
        if dataclasses.is_dataclass(arm):
            return self._table(raw, arm, place)
        if _is_table(arm):
            return self._mapping(raw, arm, place)
        if _is_array(arm):
            return self._array(raw, arm, place)
        return scalars.convert(raw, arm, place, self._environ)

    def _unknown(self, key: str, known: Mapping[str, Any], cls: Any, raw: Mapping[str, Any], place: Place) -> str:
        """Return what is wrong with an unknown key, and where it belongs."""
        hints = _hints(cls)
        around = [where for where, keys in reversed(self._open[:-1]) if key in keys]
        inside = [(*place, name) for name in known for arm in _arms(hints[name]) if self._has(arm, key, raw.get(name))]
        family = next((each for base in cls.__mro__ if (each := self._registry.family(base))), None)
        hint = _hints_module()
        owners = hint.owners(family.word, family.types, key) if family else []
        other = hint.of_other_type(str(raw.get("type")), owners)
        belongs = hint.elsewhere(around, place) or other or hint.elsewhere(inside, place)
        return unknown_key(key, known, belongs)

    def _has(self, arm: Any, key: str, raw: Any) -> bool:
        """Return whether a table that could stand below a key has another key; of a family the one that stands there."""
        family = self._registry.family(arm)
        if family is not None:
            name = raw.get("type") if isinstance(raw, dict) else None
            return isinstance(name, str) and name in _hints_module().owners(family.word, family.types, key)
        return dataclasses.is_dataclass(arm) and any(each.name == key for each in dataclasses.fields(arm))

    def _class_for(self, raw: Any, family: Family, place: Place) -> Any:
        """Find the class that a table names by its `type`."""
        _want_table(raw, place, tuple(family.types))
        name = raw.get("type")
        if not isinstance(name, str):
            wrong = f"want a string, {got(name, place)}" if "type" in raw else "required, but missing"
            self._report.add((*place, "type"), f"{wrong}; {one_of(family.types)}")
            return None
        try:
            return settings_class(family, name)
        except Unfit as unfit:
            self._report.add((*place, "type"), str(unfit))
            return None

    def _table(self, raw: Any, cls: Any, place: Place) -> Any:
        if cls is None:
            return FAILED
        _want_table(raw, place, required=[each.name for each in dataclasses.fields(cls) if _is_required(each)])
        fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
        hints = _hints(cls)
        values: dict[str, Any] = {}
        meant: set[str] = set()
        self._open.append((place, fields))
        for key, part in raw.items():
            if key in fields:
                values[key] = self.convert(part, hints[key], (*place, key))
            else:
                wrong = self._unknown(key, fields, cls, raw, place)
                self._report.add((*place, key), wrong, of_key=True)
                meant |= {field for field in fields if wrong.endswith(f"did you mean {quoted(field)}?")}
        for key, field in fields.items():
            if key not in raw and _is_required(field):
                values[key] = FAILED
                if key not in meant:  # or it is there, misspelt, which is said
                    hint = _hints_module().missing(
                        key, hints[key], place, is_table=any(map(_is_table, _arms(hints[key])))
                    )
                    self._report.add((*place, key), f"required, but missing{hint}")
        self._open.pop()
        # A settings object is only made of a table without a failed part; of any other the sound keys are judged.
        if FAILED in values.values():
            self._sketch(cls, {key: value for key, value in values.items() if value is not FAILED}, raw, place)
            return FAILED
        return self._build(cls, values, raw, place)

    def _sketch(self, cls: Any, sound: dict[str, Any], raw: Mapping[str, Any], place: Place) -> None:
        """Judge the sound keys of a broken table too, so that one run finds all problems.

        The object has its defaults and its sound keys, and never leaves this package. A problem that is not
        about one of the sound keys may only follow from what is missing, so it is left for the next time.
        """
        with contextlib.suppress(Exception, SystemExit):  # most likely the AttributeError of a key that is not there
            settings = object.__new__(cls)
            for key, value in {**_defaults(cls), **sound}.items():
                object.__setattr__(settings, key, value)
            self.built.append(Built(place, settings, whole=False))
            for key, sentence in _problems(settings):
                if key in sound:
                    self._report.add((*place, key), _with_value(sentence, key, raw, place))

    def _build(self, cls: Any, values: dict[str, Any], raw: Mapping[str, Any], place: Place) -> Any:
        try:
            settings = cls(**values)
            for key, sentence in _problems(settings):
                self._report.add((*place, *inner_place(key)), _with_value(sentence, key, raw, place))
        except (Exception, SystemExit) as error:  # a third party's __post_init__ or problems()
            # Its text is not repeated: it may quote the value, and the value may be a secret.
            raise Unfit(f"refused by {cls.__module__}.{cls.__qualname__} ({type(error).__name__})") from None
        self.built.append(Built(place, settings))
        return settings

    def _mapping(self, raw: Any, arm: Any, place: Place) -> Any:
        _want_table(raw, place)
        _, annotation = get_args(arm) or (str, Any)
        values = {key: self.convert(part, annotation, (*place, key)) for key, part in raw.items()}
        return FAILED if FAILED in values.values() else MappingProxyType(values)

    def _array(self, raw: Any, arm: Any, place: Place) -> Any:
        if not isinstance(raw, list):
            hint = _hints_module().no_array(raw, place, of_tables=_holds_tables(arm))
            raise Unfit(f"want an array, {got(raw, place)}{hint}")
        annotations = _item_annotations(arm, len(raw))
        if len(annotations) != len(raw):
            raise Unfit(f"want {len(annotations)} items, got {len(raw)}")
        pairs = enumerate(zip(raw, annotations, strict=True))
        values = tuple(self.convert(part, annotation, (*place, index)) for index, (part, annotation) in pairs)
        return FAILED if FAILED in values else values


def unknown_key(key: str, known: Mapping[str, Any], belongs: str = "") -> str:
    """Return what is wrong with an unknown key; for one that asks for a secret, where secrets belong.

    Args:
        key: the key.
        known: the keys of its table.
        belongs: where it belongs instead, as a clause; "" where no other place has it.
    """
    if belongs:
        return f"unknown key; {belongs}"
    if near := nearest(key, known, cutoff=0.85):
        return f"unknown key; did you mean {quoted(near)}?"
    from agent.config.masking import holds_secret  # once something is wrong: the daemon's memory is counted

    named = [quoted(each) for each in known if each.startswith(f"{key}_from_")]
    if named or holds_secret(key):
        way = f"use {either(named)}" if named else "put it into a file that only keyturn can read, and name that file"
        return f"a secret is never written in the config; {way}"
    if near := nearest(key, known):
        return f"unknown key; did you mean {quoted(near)}?"
    return f"{KNOWN_NOWHERE}{', '.join(known)}"


def frozen(raw: Any) -> Any:
    """Return the tree with read-only mappings and tuples."""
    if isinstance(raw, dict):
        return MappingProxyType({key: frozen(part) for key, part in raw.items()})
    return tuple(map(frozen, raw)) if isinstance(raw, list) else raw


def _with_value(sentence: str, key: str, raw: Mapping[str, Any], place: Place) -> str:
    """Return a sentence of `problems` about one key with the value that it is about, where that may be shown."""
    text = shown_value(raw[key], (*place, key)) if sentence.startswith("want ") and key in raw else ""
    return f"{sentence}, got {text}" if text else sentence


def _problems(settings: Any) -> Iterator[tuple[str, str]]:
    """Run the `problems` of every class in the hierarchy, so that a subclass cannot forget its parents'."""
    for cls in type(settings).__mro__:
        if "problems" in vars(cls):
            yield from vars(cls)["problems"](settings)


def _defaults(cls: Any) -> dict[str, Any]:
    fields = dataclasses.fields(cls)
    plain = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
    made = {f.name: f.default_factory() for f in fields if f.default_factory is not dataclasses.MISSING}
    return plain | made


@cache  # evaluating them took half of the time of a config of a thousand credentials
def _hints(cls: Any) -> dict[str, Any]:
    try:
        return get_type_hints(cls, include_extras=True)
    except (Exception, SystemExit) as error:
        raise Unfit(
            f"{cls.__module__}.{cls.__qualname__} has annotations that cannot be resolved ({type(error).__name__});"
            " report it to the author of its package"
        ) from error


def _hints_module() -> Any:
    from agent.config import hints  # once something is wrong: the daemon's memory is counted

    return hints


def _want_table(raw: Any, place: Place, types: Sequence[str] = (), required: Sequence[str] = ()) -> None:
    if not isinstance(raw, dict):
        hint = _hints_module().no_table(raw, place, types, required)
        raise Unfit(f"want a table, {got(raw, place)}{hint}")


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _arms(annotation: Any) -> list[Any]:
    """Return the members of a union; TOML has no null, so None never counts."""
    if get_origin(annotation) in (Union, UnionType):
        return [arm for arm in get_args(annotation) if arm is not type(None)]
    return [annotation]


def _is_table(arm: Any) -> bool:
    return dataclasses.is_dataclass(arm) or arm in _TABLES or get_origin(arm) in _TABLES


def _is_array(arm: Any) -> bool:
    return arm in _ARRAYS or get_origin(arm) in _ARRAYS


def _holds_tables(arm: Any) -> bool:
    return any(_is_table(each) for each in get_args(arm))


def _words(arm: Any) -> str:
    if _is_table(arm):
        return "a table"
    if get_origin(arm) is Literal:
        return either(quoted(str(each)) for each in get_args(arm))
    return "an array" if _is_array(arm) else scalars.words(arm)


def _item_annotations(arm: Any, count: int) -> list[Any]:
    """Return one annotation for each item: the one of `tuple[X, ...]` or `list[X]`, those of `tuple[X, Y]`."""
    given = get_args(arm) or (Any,)
    if get_origin(arm) is tuple and given[-1] is not Ellipsis:
        return list(given)
    return [given[0]] * count
