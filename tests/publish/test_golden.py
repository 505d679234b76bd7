"""Bytes of schema version 1, written down once: readers of that version must read what is written today.

Files are only ever added to `golden/`; one is changed together with the version of its schema alone.
"""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from ecustream.client.wire import Ask, Page, Refused, Runs, Snapshot, decode_answer, decode_message
from ecustream.publish.formats import to_msgpack
from ecustream.publish.pdus import PduTable
from ecustream.publish.questions import ANSWERS, BadRequest
from tests.publish.examples import RUN, make_event, make_status
from tests.publish.golden_messages import MESSAGES, REQUESTS, SILENCE, bodies

GOLDEN = Path(__file__).parent / "golden"
TODAY = bodies()
FORMS = ("json", "msgpack")


def golden(name: str, form: str) -> bytes:
    """The bytes written down."""
    return (GOLDEN / f"{name}.{form}").read_bytes()


def misread(old: Any, new: Any, where: str = "$") -> list[str]:
    """Where a reader of `old` would not find in `new` what it knows: same name, same type, same value."""
    if isinstance(old, dict) and isinstance(new, dict):
        gone = [f"{where}.{key} is gone" for key in old if key not in new]
        return gone + [m for key in old if key in new for m in misread(old[key], new[key], f"{where}.{key}")]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [m for i in range(len(old)) for m in misread(old[i], new[i], f"{where}[{i}]")]
    return [] if type(old) is type(new) and old == new else [f"{where} is {new!r} instead of {old!r}"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", TODAY)
def test_a_reader_of_version_1_reads_todays_bytes(name: str, form: str) -> None:
    """Every field of version 1 is still written, under its name and with its type; new ones do no harm."""
    decode = getattr(msgspec, form).decode
    today = TODAY[name] if form == "json" else to_msgpack(TODAY[name])
    assert misread(decode(golden(name, form)), decode(today)) == []


def test_nothing_is_missing_from_the_golden_files() -> None:
    """Every message and answer is written down in both forms, and nothing else is."""
    assert {path.name for path in GOLDEN.iterdir()} == {f"{name}.{form}" for name in TODAY for form in FORMS}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MESSAGES)
def test_today_reads_messages_of_version_1(name: str, form: str) -> None:
    """What a publisher of version 1 sent is read today, with every value in its place."""
    topic = name.split("_")[0].encode() + b"/eth1/"
    assert decode_message([topic, golden(name, form)]) == MESSAGES[name]


@pytest.mark.parametrize("form", FORMS)
def test_today_reads_answers_of_version_1(form: str) -> None:
    """What a publisher of version 1 answered is read today, by the client and by the documented structs."""
    answer = {name: golden(f"answer_{name}", form) for name in REQUESTS}
    ask = Ask.replay(RUN, 1)
    assert decode_answer(Ask("snapshot"), answer["snapshot"]) == Snapshot(
        RUN, 3, [make_event(1), make_event(3)]
    )
    assert decode_answer(ask, answer["replay"]) == Page(RUN, [SILENCE], 2, False, None)
    assert decode_answer(Ask("runs"), answer["runs"]) == Runs([RUN])
    assert decode_answer(ask, answer["too_old"]) == Refused("too_old", 2)
    assert decode_answer(ask, answer["other_run"]) == Refused("other_run", None)
    assert decode_answer(ask, answer["bad_request"]) == Refused("bad_request", None)
    assert decode_message([b"status/eth1/", answer["status"]]) == make_status(3)
    table = getattr(msgspec, form).decode(answer["pdus"], type=PduTable)
    assert (table.pdus[0].name, table.pdus[0].longest_ns, table.pdus[0].episodes) == ("ESC_03", 10_500_000, 1)


@pytest.mark.parametrize("name", REQUESTS)
def test_answers_are_as_documented(name: str) -> None:
    """An answer has exactly the fields of a struct that is documented for its request."""
    op = {"too_old": "replay", "other_run": "replay"}.get(name, name)
    structs = ANSWERS.get(op, (BadRequest,))
    written = msgspec.json.decode(TODAY[f"answer_{name}"])
    fitting = [struct for struct in structs if set(struct.__struct_fields__) == set(written)]
    assert fitting
    msgspec.convert(written, fitting[0])


@pytest.mark.parametrize("name", TODAY)
def test_both_forms_say_the_same(name: str) -> None:
    """MessagePack is the same object, its keys in the same order, in fewer bytes."""
    packed = to_msgpack(TODAY[name])
    assert msgspec.json.encode(msgspec.msgpack.decode(packed)) == TODAY[name]
    assert len(packed) < len(TODAY[name])
