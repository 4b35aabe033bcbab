"""Changes to configurations given as text: `key=value` or `section.key=value`."""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def apply_overrides(overrides: Sequence[str], configs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configurations with values replaced.

    Args:
        overrides: Such as "dim=256", or "model.dim=256" where two configurations have the key.
        configs: Dataclass instances by section name, such as "model" and "train".

    Raises:
        ValueError: If an override is not of that form, names no key or one of several sections, or
            has a value that its field does not take.
    """
    changes: dict[str, dict[str, Any]] = {section: {} for section in configs}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ValueError(f"an override has the form key=value, got {override!r}")
        section, name = _find(key.strip(), configs)
        hint = get_type_hints(type(configs[section]))[name]
        changes[section][name] = parse_value(text.strip(), hint, key.strip())
    return {name: replace(config, **changes[name]) for name, config in configs.items()}


def parse_value(text: str, hint: Any, key: str) -> Any:
    """Return `text` as a value of the type `hint`.

    Raises:
        ValueError: If it is not one; names `key`, the text and the type.
    """
    for parse in _parsers(hint):
        try:
            return parse(text)
        except (ValueError, KeyError):
            continue
    raise ValueError(f"{key} must be {_describe(hint)}, got {text!r}")


def _find(key: str, configs: Mapping[str, Any]) -> tuple[str, str]:
    """Return the section and the field that `key` names."""
    places = [(section, f.name) for section, config in configs.items() for f in fields(config)]
    found = [(s, name) for s, name in places if key in (name, f"{s}.{name}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{key!r} is in {[s for s, _ in found]}: write {found[0][0]}.{key}")
    near = difflib.get_close_matches(key.rpartition(".")[2], [name for _, name in places], n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    names = "; ".join(f"{s}: {', '.join(f.name for f in fields(c))}" for s, c in configs.items())
    raise ValueError(f"no setting {key!r}; {hint}there are {names}")


def _parsers(hint: Any) -> list[Any]:
    """Return functions from text to a value, to be tried in order."""
    if get_origin(hint) in (Union, types.UnionType):
        return [parser for choice in get_args(hint) for parser in _parsers(choice)]
    if get_origin(hint) is Literal:
        return [{str(choice): choice for choice in get_args(hint)}.__getitem__]
    if get_origin(hint) is tuple:
        return [lambda text: _parse_tuple(text, get_args(hint))]
    if hint is bool:
        return [lambda text: TRUTH[text.lower()]]
    if hint is types.NoneType:
        return [{"none": None}.__getitem__]
    if hint is int:
        return [lambda text: int(text.replace("_", ""))]
    assert hint in (float, str), f"no parser for a field of type {hint}"
    return [hint]


def _parse_tuple(text: str, hints: tuple[Any, ...]) -> tuple[Any, ...]:
    items = [item.strip() for item in text.strip("()[] ").split(",") if item.strip()]
    if hints[-1] is Ellipsis:
        hints = (hints[0],) * len(items)
    if len(items) != len(hints):
        raise ValueError(f"{len(items)} values")
    return tuple(parse_value(item, hint, "") for item, hint in zip(items, hints, strict=True))


def _describe(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of {list(get_args(hint))}"
    return hint.__name__ if isinstance(hint, type) else str(hint)
