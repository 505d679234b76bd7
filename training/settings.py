"""Bodies, recipes and the like by name, with single keys of them replaced: `recipe.batch=16`."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from ecustream.errors import ConfigError

__all__ = ["chosen", "with_keys"]

StructT = TypeVar("StructT", bound=msgspec.Struct)


def chosen(what: str, name: str, among: Mapping[str, StructT]) -> StructT:
    """The entry called `name`.

    Raises:
        ConfigError: there is none; the sentence lists those that there are.
    """
    if name not in among:
        raise ConfigError(f"there is no {what} {name!r}, only {', '.join(among)}")
    return among[name]


def with_keys(assignments: Sequence[str], **structs: msgspec.Struct) -> dict[str, Any]:
    """Structs with some keys replaced.

    Args:
        assignments: texts `STRUCT.KEY=VALUE`, the value as in JSON, or bare text.
        structs: by the name that assignments call them by.

    Returns:
        New structs by name.

    Raises:
        ConfigError: there is no such key, or the value is not one for it; the sentence names it.
    """
    out: dict[str, Any] = dict(structs)
    for text in assignments:
        path, equals, value = text.partition("=")
        struct, _, key = path.strip().partition(".")
        if not equals or struct not in out:
            raise ConfigError(f"{text!r} is not KEY=VALUE with a key of {' or '.join(f'{s}.*' for s in out)}")
        known = [field.name for field in msgspec.structs.fields(out[struct])]
        if key not in known:
            raise ConfigError(f"{struct}.{key}: there is no such key, only {', '.join(known)}")
        try:
            parsed = msgspec.json.decode(value)
        except msgspec.DecodeError:
            parsed = value
        try:
            changed = msgspec.to_builtins(out[struct]) | {key: parsed}
            out[struct] = msgspec.convert(changed, type(out[struct]), strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{struct}.{key}={value}: {error}") from None
    return out
