"""Writes a configuration as TOML."""

import json
from typing import Any

import msgspec

__all__ = ["effective_toml", "toml_value"]


def effective_toml(config: msgspec.Struct) -> str:
    """The configuration in force as TOML that `load_config` reads; keys that are not set are comments."""
    lines: list[str] = []
    _write_table(config, "", lines)
    return "\n".join(lines).strip() + "\n"


def _write_table(struct: msgspec.Struct, prefix: str, lines: list[str]) -> None:
    tables: list[tuple[str, msgspec.Struct]] = []
    if prefix:
        lines += ["", f"[{prefix[:-1]}]"]
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        if isinstance(value, msgspec.Struct):
            tables.append((f"{prefix}{name}.", value))
        else:
            lines.append(f"# {name} is not set" if value is None else f"{name} = {toml_value(value)}")
    for inner, table in tables:
        _write_table(table, inner, lines)


def toml_value(value: Any) -> str:
    """A TOML value. JSON's strings are TOML's basic strings, but for DEL."""
    if isinstance(value, dict):
        inside = ", ".join(f"{toml_value(str(key))} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
