"""The one configuration file (TOML): its keys with defaults that work, read into structs."""

import difflib
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from ecustream.addresses import check_bind_url
from ecustream.credentials import is_credential, resolve_credential
from ecustream.effective import toml_value
from ecustream.errors import ConfigError

__all__ = [
    "CaptureConfig",
    "Config",
    "DetectConfig",
    "InputConfig",
    "MetricsConfig",
    "PublishConfig",
    "RingConfig",
    "ScoringConfig",
    "StateConfig",
    "load_config",
]

COMMAND_LINE = "command line"
_PATHS = ("input.names", "scoring.model", "publish.journal", "publish.curve_secret", "publish.curve_clients")

Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]
Name = Annotated[str, Meta(min_length=1)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Device = Annotated[
    str,
    Meta(
        pattern=r"^(auto|cpu|cuda(:\d{1,3})?)$",
        description='"auto", "cpu", "cuda" or "cuda:0" and so on',
    ),
]
StructT = TypeVar("StructT", bound=msgspec.Struct)


class StateConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the activity state comes from; without `pdu` and `nm_port` the PDU population decides.

    Attributes:
        pdu: name of the PDU whose payload carries the state.
        byte: 0-based byte of that payload.
        mask: bits of the byte that count.
        values: masked value (decimal or 0x…) to activity state 0, 1 or 2.
        nm_port: UDP port of network management.
    """

    pdu: str | None = None
    byte: Annotated[int, Meta(ge=0)] = 0
    mask: Annotated[int, Meta(ge=1, le=255)] = 255
    values: dict[str, Literal[0, 1, 2]] = {}
    nm_port: Port | None = None


class CaptureConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a network interface is captured on.

    Attributes:
        backend: what captures: the kernel's ring (`afpacket`, on Linux), scapy, or `auto`: the first that
            the system has.
        ring_mib: memory, in MiB, of the kernel's ring for each interface: what came while nobody read.
        promiscuous: whether unicast frames between others are captured; multicast is in any case.
        outgoing: whether frames that this machine itself sends on the interface are captured.
        loggers: bus names for what loggers recorded, by interface id (decimal or 0x…); of traces, too.
    """

    backend: Literal["auto", "afpacket", "scapy"] = "auto"
    ring_mib: Annotated[int, Meta(ge=1, le=2048)] = 64
    promiscuous: bool = True
    outgoing: bool = True
    loggers: dict[str, Name] = {}


class InputConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How bytes become lines.

    Attributes:
        names: file with PDU names; relative to the configuration file where that names it.
        layouts: PDU header layout per socket, e.g. `{"42557" = "soad"}`; the decode stage knows the names.
        key: what "the same PDU" means for delta time: name on one flow (`stream`) or name alone (`name`).
        source: bus name to use instead of the one in the trace.
        state: where the activity state comes from.
    """

    names: str | None = None
    layouts: dict[str, str] = {}
    key: Literal["stream", "name"] = "stream"
    source: str | None = None
    state: StateConfig = StateConfig()


class ScoringConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How lines are scored.

    Attributes:
        chunk_lines: lines of one trace in a model call, at most.
        max_wait_ms: how long a line may wait for others to be scored with; `speed = "max"` does not wait.
        threads: CPU threads; 0 is automatic.
        device: `cpu`, `cuda`, `cuda:1` and so on; `auto` is a GPU where there is one.
        dtype: of the model's products; `bfloat16` is for hardware that has it, and moves scores a little.
        speed: a multiple of real time, or `max`.
        model: the bundle's folder; relative to the configuration file where that names it. Default: the one
            for the demo trace.
    """

    chunk_lines: Count = 256
    max_wait_ms: Annotated[float, Meta(ge=0)] = 5.0
    threads: Annotated[int, Meta(ge=0)] = 0
    device: Device = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    speed: Literal["max"] | Positive = "max"
    model: str | None = None


class DetectConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When scores become events; `join_ms` is how close two strange lines must be to make one episode."""

    filter: Literal["episodes", "perplexity"] = "episodes"
    false_alarms_per_hour: Positive = 1.0
    perplexity_threshold: Annotated[float, Meta(ge=1)] = 1.5
    perplexity_lines: Count = 3
    join_ms: Annotated[float, Meta(ge=0)] = 500.0


class PublishConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where events go: the PUB and the reply socket, and how far a replay can reach back.

    Attributes:
        enabled: whether there are sockets at all, and a journal.
        pub: address of the PUB socket.
        reply: address of the reply socket.
        allow_remote: whether machines other than this one may connect without keys.
        group: whose members may connect to ipc sockets, beside the user who runs this.
        format: how messages and answers are written.
        curve_secret: file of the secret key that encrypts both sockets, relative like `journal`; or
            `credential:NAME`, as systemd hands it over.
        curve_clients: file or folder of the public keys that may connect then; relative like `journal`.
        history_events: how many events are kept in memory.
        journal: folder in which events are kept over a restart; relative to the configuration file where
            that names it.
        journal_max_bytes: size of that folder at which the oldest events are deleted.
        journal_max_age_h: age in hours at which events are deleted.
    """

    enabled: bool = True
    pub: str = "tcp://127.0.0.1:5556"
    reply: str = "tcp://127.0.0.1:5557"
    allow_remote: bool = False
    group: Name | None = None
    format: Literal["json", "msgpack"] = "json"
    curve_secret: Name | None = None
    curve_clients: Name | None = None
    history_events: Count = 10_000
    journal: Name | None = None
    journal_max_bytes: Annotated[int, Meta(ge=1_000_000)] = 100_000_000
    journal_max_age_h: Positive = 168.0


class RingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The lines that wait between capture and scoring.

    Attributes:
        lines: how many may wait, of each trace; fewer do where `speed = "max"` needs no more.
        when_full: whether capture then waits, or skips the oldest lines; `auto` skips for interfaces alone.
    """

    lines: Count = 65_536
    when_full: Literal["auto", "wait", "skip"] = "auto"


class MetricsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Metrics for Prometheus: `port` is where on 127.0.0.1, 0 for a free one; there are none without it."""

    port: Annotated[int, Meta(ge=0, le=65535)] | None = None


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be configured; `Config()` holds defaults that work."""

    capture: CaptureConfig = CaptureConfig()
    input: InputConfig = InputConfig()
    scoring: ScoringConfig = ScoringConfig()
    detect: DetectConfig = DetectConfig()
    publish: PublishConfig = PublishConfig()
    ring: RingConfig = RingConfig()
    metrics: MetricsConfig = MetricsConfig()


def load_config(path: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Reads the configuration file, if any, and puts the command line's values over it.

    Args:
        path: TOML file; None for the defaults.
        overrides: dotted key to value, e.g. `{"detect.false_alarms_per_hour": 2}`. A value of None means
            "not given"; a string is read as the number or truth value that the key wants.

    Raises:
        ConfigError: the file cannot be read, or a key or value is wrong; the sentence names the file,
            the key, and what is allowed.
    """
    leaves: dict[str, Any] = {}
    if path is not None:
        leaves.update(_leaves(_read_toml(Path(path)), Config, str(path)))
        for key in _PATHS:
            if leaves.get(key) is not None and not is_credential(leaves[key]):
                leaves[key] = str(Path(path).parent / leaves[key])
    for key, value in (overrides or {}).items():
        if value is not None:
            leaves[key] = _value(value, _type_of(key), key, COMMAND_LINE, strict=False)
    secret = leaves.get("publish.curve_secret")
    if secret is not None:
        try:
            leaves["publish.curve_secret"] = resolve_credential(secret)
        except ConfigError as error:
            raise ConfigError(f"{path or COMMAND_LINE}: publish.curve_secret: {error}") from None
    config = _assemble(Config, "", leaves)
    _check_together(config, COMMAND_LINE if path is None else str(path))
    return config


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}") from error


def _is_table(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, msgspec.Struct)


def _field_types(struct: type[msgspec.Struct]) -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(struct)}


def _leaves(
    table: Mapping[str, Any], struct: type[msgspec.Struct], origin: str, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Walks a table of the file, so that every error knows its dotted key; yields (dotted key, value)."""
    types = _field_types(struct)
    for name, value in table.items():
        key = prefix + name
        if name not in types:
            raise _unknown_key(key, origin)
        if not _is_table(types[name]):
            yield key, _value(value, types[name], key, origin, strict=True)
        elif isinstance(value, dict):
            yield from _leaves(value, types[name], origin, key + ".")
        else:
            raise ConfigError(f"{origin}: {key} must be a table with the keys {_keys(types[name])}")


def _type_of(key: str) -> Any:
    type_: Any = Config
    for name in key.split("."):
        types = _field_types(type_) if _is_table(type_) else {}
        if name not in types:
            raise _unknown_key(key, COMMAND_LINE)
        type_ = types[name]
    if _is_table(type_):
        raise ConfigError(f"{COMMAND_LINE}: {key} is a table; give one of its keys {_keys(type_)}")
    return type_


def _value(value: Any, type_: Any, key: str, origin: str, *, strict: bool) -> Any:
    try:
        converted = msgspec.convert(value, type_, strict=strict)
    except (msgspec.ValidationError, OverflowError) as error:
        allowed = _allowed(msgspec.inspect.type_info(type_))
        raise ConfigError(f"{origin}: {key} is {toml_value(value)}, but must be {allowed}") from error
    if isinstance(converted, float) and not math.isfinite(converted):
        raise ConfigError(f"{origin}: {key} is {converted}, but must be a finite number")
    return converted


def _unknown_key(key: str, origin: str) -> ConfigError:
    """The sentence on a key that does not exist: the nearest one, and those that its table has."""
    table = ""
    struct: type[msgspec.Struct] = Config
    for name in key.split(".")[:-1]:
        inner: Any = _field_types(struct).get(name)
        if not _is_table(inner):
            break
        table, struct = f"{table}{name}.", inner
    every = dict(_every_key(Config))
    near = difflib.get_close_matches(key, every, n=1) or [
        full for full in every if full.endswith("." + key.rsplit(".", 1)[-1])
    ]
    hint = f'; did you mean "{near[0]}"?' if near else ";"
    where = f"[{table[:-1]}]" if table else "the top level"
    return ConfigError(f'{origin}: unknown key "{key}"{hint} {where} has {_keys(struct)}')


def _every_key(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, type_ in _field_types(struct).items():
        yield prefix + name, type_
        if _is_table(type_):
            yield from _every_key(type_, f"{prefix}{name}.")


def _keys(struct: type[msgspec.Struct]) -> str:
    return ", ".join(_field_types(struct))


def _allowed(info: msgspec.inspect.Type) -> str:
    """What a key accepts, in words."""
    match info:
        case msgspec.inspect.Metadata(extra_json_schema={"description": str(words)}):
            return words
        case msgspec.inspect.UnionType(types=types):
            return " or ".join(_allowed(t) for t in types if not isinstance(t, msgspec.inspect.NoneType))
        case msgspec.inspect.LiteralType(values=values):
            return ("one of " if len(values) > 1 else "") + ", ".join(toml_value(value) for value in values)
        case msgspec.inspect.IntType(ge=low, le=high):
            return _range("a whole number", low, high)
        case msgspec.inspect.FloatType(gt=above, ge=low, le=high):
            return "a number above 0" if above == 0 else _range("a number", low, high)
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.DictType(value_type=value):
            return f"a table in which every value is {_allowed(value)}"
        case _:
            return "a text in quotes"


def _range(what: str, low: float | None, high: float | None) -> str:
    if high is not None:
        return f"{what} from {low} to {high}"
    return f"{what} of at least {low}" if low is not None else what


def _assemble(struct: type[StructT], prefix: str, leaves: Mapping[str, Any]) -> StructT:
    given = {}
    for name, type_ in _field_types(struct).items():
        if _is_table(type_):
            given[name] = _assemble(type_, f"{prefix}{name}.", leaves)
        elif prefix + name in leaves:
            given[name] = leaves[prefix + name]
    return struct(**given)


def _check_together(config: Config, origin: str) -> None:
    """What one key alone cannot show."""
    if config.ring.lines < config.scoring.chunk_lines:
        raise ConfigError(
            f"{origin}: ring.lines is {config.ring.lines}, but must be at least "
            f"scoring.chunk_lines ({config.scoring.chunk_lines})"
        )
    state = config.input.state
    if state.pdu is not None and not state.values:
        raise ConfigError(f"{origin}: input.state.pdu is given, but input.state.values is empty")
    for text in state.values:
        if not re.fullmatch(r"\d+|0[xX][0-9a-fA-F]+", text):
            raise ConfigError(f'{origin}: input.state.values has the key "{text}", but keys must be numbers')
    _check_loggers(config.capture.loggers, origin)
    if config.publish.enabled:
        _check_publish(config.publish, origin)


def _check_loggers(loggers: Mapping[str, str], origin: str) -> None:
    for text in loggers:
        if not re.fullmatch(r"0|[1-9][0-9]{0,9}|0[xX][0-9a-fA-F]{1,8}", text):
            raise ConfigError(f'{origin}: capture.loggers has the key "{text}", but keys must be numbers')
    if len({int(text, 0) for text in loggers}) < len(loggers):
        raise ConfigError(f"{origin}: capture.loggers names one interface twice")


def _check_publish(publish: PublishConfig, origin: str) -> None:
    if (publish.curve_secret is None) != (publish.curve_clients is None):
        raise ConfigError(
            f"{origin}: publish.curve_secret and publish.curve_clients belong together; give both or neither"
        )
    for key in ("pub", "reply"):
        try:
            allowed = publish.allow_remote or publish.curve_secret is not None
            check_bind_url(getattr(publish, key), allow_remote=allowed)
        except ConfigError as error:
            raise ConfigError(f"{origin}: publish.{key}: {error}") from error
    if publish.pub == publish.reply and not publish.pub.endswith(":*"):
        raise ConfigError(f"{origin}: publish.pub and publish.reply must differ")
    if publish.group is not None and "ipc://" not in publish.pub + publish.reply:
        raise ConfigError(f"{origin}: publish.group is given, but publish.pub and publish.reply are not ipc")
