"""The configuration file."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.addresses import check_bind_url
from ecustream.config import Config, InputConfig, load_config
from ecustream.effective import effective_toml
from ecustream.errors import ConfigError


def write(tmp_path: Path, text: str) -> Path:
    """A configuration file with this text."""
    path = tmp_path / "bench.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults() -> None:
    """Without a file the documented defaults hold."""
    config = load_config()
    assert config == Config()
    assert tomllib.loads(effective_toml(config)) == {
        "input": {"layouts": {}, "key": "stream", "state": {"byte": 0, "mask": 255, "values": {}}},
        "scoring": {
            "chunk_lines": 256,
            "max_wait_ms": 5.0,
            "threads": 0,
            "device": "cpu",
            "dtype": "float32",
            "speed": "max",
        },
        "detect": {
            "filter": "episodes",
            "false_alarms_per_hour": 1.0,
            "perplexity_threshold": 1.5,
            "perplexity_lines": 3,
            "join_ms": 500.0,
        },
        "publish": {
            "enabled": True,
            "pub": "tcp://127.0.0.1:5556",
            "reply": "tcp://127.0.0.1:5557",
            "allow_remote": False,
            "format": "json",
            "history_events": 10_000,
            "journal_max_bytes": 100_000_000,
            "journal_max_age_h": 168.0,
        },
        "ring": {"lines": 65_536, "when_full": "auto"},
        "capture": {"backend": "auto", "ring_mib": 64, "promiscuous": True, "outgoing": True, "loggers": {}},
        "metrics": {},
    }


def test_file_then_command_line(tmp_path: Path) -> None:
    """The file overrides the defaults and the command line overrides the file; None is not given."""
    path = write(
        tmp_path,
        """
        [detect]
        false_alarms_per_hour = 2
        join_ms = 100
        [input.state]
        pdu = "Klemmen_Status_01"
        values = { "0x10" = 1, "0" = 2 }
        """,
    )
    config = load_config(path, {"detect.join_ms": 50, "scoring.speed": None, "input.state.byte": 3})
    assert config.detect.false_alarms_per_hour == 2.0
    assert config.detect.join_ms == 50.0
    assert config.scoring.speed == "max"
    assert config.input.state.byte == 3
    assert config.input.state.values == {"0x10": 1, "0": 2}


def test_command_line_text_becomes_what_the_key_wants() -> None:
    """Values as a shell passes them, as text, are read as number or truth value."""
    config = load_config(
        None,
        {"scoring.speed": "2.5", "scoring.threads": "2", "publish.enabled": "false", "input.source": "8"},
    )
    assert (config.scoring.speed, config.scoring.threads) == (2.5, 2)
    assert config.publish.enabled is False
    assert config.input.source == "8"


def test_names_stand_beside_the_file_that_names_them(tmp_path: Path) -> None:
    """A relative names file in the configuration is found from any folder; an option is taken as given."""
    path = write(tmp_path, '[input]\nnames = "names.csv"')
    assert load_config(path).input.names == str(tmp_path / "names.csv")
    assert load_config(path, {"input.names": "here.csv"}).input.names == "here.csv"


def test_the_journal_stands_beside_the_file_that_names_it(tmp_path: Path) -> None:
    """A relative journal folder in the configuration is the same from any folder; an option is as given."""
    path = write(tmp_path, '[publish]\njournal = "events"\njournal_max_age_h = 24')
    assert load_config(path).publish.journal == str(tmp_path / "events")
    assert load_config(path, {"publish.journal": "here"}).publish.journal == "here"
    assert load_config(path).publish.journal_max_age_h == 24.0


def test_keys_open_an_address_to_other_machines(tmp_path: Path) -> None:
    """With keys, whose files stand beside the configuration, an address open to others needs no leave."""
    path = write(
        tmp_path, '[publish]\npub = "tcp://*:5556"\ncurve_secret = "bench.secret"\ncurve_clients = "readers"'
    )
    publish = load_config(path).publish
    assert publish.curve_secret == str(tmp_path / "bench.secret")
    assert publish.curve_clients == str(tmp_path / "readers")
    assert publish.allow_remote is False


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "[detect]\nfalse_alarm_per_hour = 3",
            'unknown key "detect.false_alarm_per_hour"; did you mean "detect.false_alarms_per_hour"? '
            "[detect] has filter, false_alarms_per_hour, perplexity_threshold, perplexity_lines, join_ms",
        ),
        ("[publsh]", 'unknown key "publsh"; did you mean "publish"? the top level has '),
        ("chunk_lines = 3", 'unknown key "chunk_lines"; did you mean "scoring.chunk_lines"?'),
        ("[input.state]\nmaks = 1", 'unknown key "input.state.maks"; did you mean "input.state.mask"?'),
        (
            "[zzz]\nq = 1",
            'unknown key "zzz"; the top level has capture, input, scoring, detect, publish, ring',
        ),
        ("detect = 3", "detect must be a table with the keys filter, "),
        ('[detect]\nfilter = "all"', 'detect.filter is "all", but must be one of "episodes", "perplexity"'),
        ("[scoring]\nspeed = 0", 'scoring.speed is 0, but must be "max" or a number above 0'),
        ("[scoring]\nspeed = inf", "scoring.speed is inf, but must be a finite number"),
        (
            "[scoring]\nchunk_lines = 1.5",
            "scoring.chunk_lines is 1.5, but must be a whole number of at least 1",
        ),
        ('[scoring]\nthreads = "2"', 'scoring.threads is "2", but must be a whole number of at least 0'),
        (
            '[scoring]\ndevice = "gpu"',
            'scoring.device is "gpu", but must be "auto", "cpu", "cuda" or "cuda:0" and so on',
        ),
        ('[scoring]\ndtype = "half"', 'scoring.dtype is "half", but must be one of "bfloat16", "float32"'),
        ("[detect]\njoin_ms = nan", "detect.join_ms is nan, but must be a number of at least 0"),
        ("[input.state]\nmask = 256", "input.state.mask is 256, but must be a whole number from 1 to 255"),
        ("[publish]\nenabled = 1", "publish.enabled is 1, but must be true or false"),
        ("[input]\nsource = 8", "input.source is 8, but must be a text in quotes"),
        ('[input.state]\nvalues = {"1" = 3}', "a table in which every value is one of 0, 1, 2"),
        (
            '[input.state]\nvalues = {"on" = 1}',
            'input.state.values has the key "on", but keys must be numbers',
        ),
        (
            '[capture.loggers]\n"ETH1" = "0x1001"',
            'capture.loggers has the key "ETH1", but keys must be numbers',
        ),
        ('[capture.loggers]\n0x10 = "a"\n16 = "b"', "capture.loggers names one interface twice"),
        ('[input.state]\npdu = "x"', "input.state.pdu is given, but input.state.values is empty"),
        ('[ring]\nwhen_full = "drop"', 'ring.when_full is "drop", but must be one of "auto", "skip", "wait"'),
        ("[capture]\nring_mib = 0", "capture.ring_mib is 0, but must be a whole number from 1 to 2048"),
        ("[ring]\nlines = 100", "ring.lines is 100, but must be at least scoring.chunk_lines (256)"),
        (
            '[publish]\npub = "tcp://0.0.0.0:1"',
            'publish.pub: "tcp://0.0.0.0:1" would let other machines read',
        ),
        ('[publish]\njournal = ""', 'publish.journal is "", but must be a text in quotes'),
        (
            "[publish]\njournal_max_bytes = 100",
            "publish.journal_max_bytes is 100, but must be a whole number of at least 1000000",
        ),
        ("[publish]\njournal_max_age_h = 0", "publish.journal_max_age_h is 0, but must be a number above 0"),
        ('[publish]\nformat = "xml"', 'publish.format is "xml", but must be one of "json", "msgpack"'),
        ('[publish]\ncurve_secret = "a"', "publish.curve_secret and publish.curve_clients belong together"),
        ('[publish]\ncurve_clients = "a"', "publish.curve_secret and publish.curve_clients belong together"),
        (
            '[publish]\ngroup = "bench"',
            "publish.group is given, but publish.pub and",
        ),
        ('[publish]\nreply = "5557"', 'publish.reply: "5557" is no socket address'),
        ('[publish]\npub = "ipc://a"\nreply = "ipc://a"', "publish.pub and publish.reply must differ"),
        ("[ring\nlines = 1", "is not valid TOML: "),
        ("[ring]\nlines = 1\nlines = 2", "is not valid TOML: "),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, sentence: str) -> None:
    """Whatever is wrong is one sentence with the file, the key, and what is allowed."""
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"detect.join": 1}, 'unknown key "detect.join"; did you mean "detect.join_ms"?'),
        ({"detect": 1}, "detect is a table; give one of its keys filter, "),
        ({"ring.lines.x": 1}, 'unknown key "ring.lines.x"; did you mean "ring.lines"?'),
        ({"scoring.threads": "many"}, 'scoring.threads is "many", but must be a whole number of at least 0'),
        ({"ring.lines": 1}, "ring.lines is 1, but must be at least scoring.chunk_lines (256)"),
    ],
)
def test_wrong_command_line(overrides: dict[str, Any], sentence: str) -> None:
    """A wrong value on the command line is said to come from there."""
    with pytest.raises(ConfigError) as caught:
        load_config(None, overrides)
    assert str(caught.value).startswith("command line: ")
    assert sentence in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    """A file that is missing, a folder, or not text is refused with its name."""
    with pytest.raises(ConfigError, match=r"no\.toml: cannot be read: No such file"):
        load_config(tmp_path / "no.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'a = "\xe9"')
    with pytest.raises(ConfigError, match=r"latin\.toml: is not valid TOML"):
        load_config(tmp_path / "latin.toml")


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = {
    "input.source": TEXT,
    "input.names": TEXT.map(lambda text: str(Path("/" + text.replace("\0", "")))),
    "input.layouts": st.dictionaries(TEXT, TEXT, max_size=3),
    "input.key": st.sampled_from(["stream", "name"]),
    "input.state.nm_port": st.integers(1, 65535),
    "input.state.values": st.dictionaries(st.integers(0, 255).map(str), st.integers(0, 2)),
    "scoring.speed": st.just("max") | st.floats(1e-300, 1e300),
    "scoring.max_wait_ms": st.floats(0, 1e308),
    "scoring.device": st.sampled_from(["auto", "cpu", "cuda", "cuda:0", "cuda:12"]),
    "scoring.dtype": st.sampled_from(["float32", "bfloat16"]),
    "detect.false_alarms_per_hour": st.floats(0, 1e308, exclude_min=True),
    "capture.backend": st.sampled_from(["auto", "afpacket", "scapy"]),
    "capture.ring_mib": st.integers(1, 2048),
    "capture.loggers": st.dictionaries(st.integers(0, 2**32 - 1).map(hex), st.text("abc", min_size=1)),
    "ring.when_full": st.sampled_from(["auto", "wait", "skip"]),
    "publish.allow_remote": st.booleans(),
    "publish.history_events": st.integers(1, 2**62),
    "publish.journal": TEXT.map(lambda text: str(Path("/" + text.replace("\0", "")))),
    "publish.journal_max_age_h": st.floats(0, 1e308, exclude_min=True),
}


@given(st.fixed_dictionaries({}, optional=VALUES))
@settings(deadline=None, max_examples=150)
def test_effective_toml_reads_back(tmp_path_factory: pytest.TempPathFactory, given_: dict[str, Any]) -> None:
    """What `effective_toml` prints is a configuration file that gives the same configuration."""
    config = load_config(None, given_)
    path = tmp_path_factory.getbasetemp() / "effective.toml"
    path.write_bytes(effective_toml(config).encode())
    assert load_config(path) == config


@given(st.text(max_size=80))
@settings(deadline=None, max_examples=200)
def test_any_url_is_judged(url: str) -> None:
    """No text makes the address check fail otherwise than by its sentence."""
    try:
        check_bind_url(url, allow_remote=False)
    except ConfigError:
        return
    assert url.startswith(("tcp://", "ipc://"))


@pytest.mark.parametrize(
    "url",
    [
        "tcp://127.0.0.1:5556",
        "tcp://127.3.2.1:*",
        "tcp://[::1]:5556",
        "tcp://localhost:0",
        "tcp://lo:1",
        "ipc:///run/x",
        "ipc://@x",
    ],
)
def test_addresses_of_this_machine(url: str) -> None:
    """Loopback and ipc need no leave."""
    check_bind_url(url, allow_remote=False)


def test_config_is_frozen() -> None:
    """A configuration does not change while a run reads it."""
    with pytest.raises(AttributeError):
        InputConfig().key = "name"  # type: ignore[misc]
    assert msgspec.structs.asdict(InputConfig())["key"] == "stream"
