"""Bundles that are written, read back, served, and refused when anything in them is not right."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from ecustream.errors import BundleError, ConfigError, EcustreamError
from ecustream.scoring.bundle import Bundle, load_bundle
from ecustream.scoring.manifest import BundlePdu, read_bundle, write_bundle
from ecustream.scoring.qwen2 import Qwen2
from tests.scoring.bundles import PDUS, bundle_files, bundle_info
from tests.scoring.tiny import CYCLES_NS, make_stream

FILES = ("bundle.json", "config.json", "model.safetensors", "tokenizer.json", "calibration.json")
SIGNED = FILES[1:]
SLIDING = ["sliding_attention"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The folder of a bundle in good order."""
    write_bundle(tmp_path / "bundle", bundle_info(), bundle_files())
    return tmp_path / "bundle"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose files a test damages and mends again."""
    path = tmp_path_factory.mktemp("scratch") / "bundle"
    write_bundle(path, bundle_info(), bundle_files())
    return path


def refusal(path: Path) -> str:
    """The one sentence with which a bundle is refused."""
    with pytest.raises(BundleError) as caught:
        load_bundle(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: ")
    assert "\n" not in sentence
    return sentence


def test_a_bundle_is_read_back_as_it_was_written(path: Path) -> None:
    """Every file has its bytes, and bundle.json every field."""
    files = read_bundle(path)
    assert files.path == path
    assert files.data == bundle_files()
    assert sorted(files.info.sha256) == sorted([*SIGNED, "bundle.json"])
    assert msgspec.structs.replace(files.info, sha256={}) == bundle_info()


def test_a_bundle_opens_with_transformers_and_gives_the_same_logits(path: Path) -> None:
    """`from_pretrained` needs nothing of ours, and scores as the served model does."""
    theirs = AutoModelForCausalLM.from_pretrained(path)
    ours = load_bundle(path).network
    assert isinstance(ours, Qwen2)
    ids = torch.arange(60)
    with torch.no_grad():
        expected = theirs(ids[None], use_cache=False).logits[0]
    torch.testing.assert_close(ours.logits(ids, ours.new_stream()), expected, atol=1e-4, rtol=0)
    assert Tokenizer.from_file(str(path / "tokenizer.json")).get_vocab_size() == ours.vocab


def test_a_bundle_says_in_words_what_a_token_means(path: Path) -> None:
    """A name token is the PDU's name, a delta token a time in the cycle of the line's PDU."""
    bundle = load_bundle(path)
    fast = make_stream(0, "fast")
    tokens = Tokenizer.from_file(str(path / "tokenizer.json")).get_vocab()
    assert bundle.expectation(tokens["<pdu:slow>"], fast) == "SLOW"
    # Bin 32 begins at the cycle itself.
    assert bundle.expectation(tokens["<delta:relative:32>"], fast) == "10.0 ms"
    assert bundle.expectation(tokens["<delta:relative:32>"], make_stream(1, "slow")) == "1.00 s"
    assert bundle.expectation(tokens["<unk>"], fast) is None
    assert bundle.expectation(tokens["<state:1>"], fast) is None
    assert bundle.expectation(-1, fast) is None


def test_tokenizers_of_a_bundle_share_no_state(path: Path) -> None:
    """Each stream gets a tokenizer of its own that begins without a state."""
    bundle = load_bundle(path)
    assert bundle.new_tokenizer() is not bundle.new_tokenizer()
    assert bundle.new_tokenizer().vocabulary_size == bundle.network.vocab


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(path: Path, name: str) -> None:
    """Without any one of its files a bundle is refused, and the sentence names the file."""
    (path / name).unlink()
    assert name in refusal(path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_cut_file_is_named(path: Path, name: str, keep: float) -> None:
    """A file that ends early, as after a full disk, is refused by name."""
    data = (path / name).read_bytes().rstrip()
    (path / name).write_bytes(data[: int(keep * len(data))])
    assert name in refusal(path)


@pytest.mark.parametrize("name", SIGNED)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_byte_of_a_file_is_named(scratch: Path, name: str, data: st.DataObject) -> None:
    """Whatever byte is not as it was written, the bundle is refused and the file named."""
    good = (scratch / name).read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    flipped = bytes([good[at] ^ data.draw(st.integers(1, 255))])
    try:
        (scratch / name).write_bytes(good[:at] + flipped + good[at + 1 :])
        assert name in refusal(scratch)
    finally:
        (scratch / name).write_bytes(good)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_flipped_byte_of_bundle_json_is_a_sentence_or_nothing(scratch: Path, data: st.DataObject) -> None:
    """bundle.json with a wrong byte is loaded or refused in one sentence, and never another exception."""
    good = (scratch / "bundle.json").read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    flipped = bytes([good[at] ^ data.draw(st.integers(1, 255))])
    try:
        (scratch / "bundle.json").write_bytes(good[:at] + flipped + good[at + 1 :])
        try:
            load_bundle(scratch)
        except BundleError:
            assert refusal(scratch)
    finally:
        (scratch / "bundle.json").write_bytes(good)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param('"cycle_ns": 10000000,', '"cycle_ns": 70000000,', id="cycle"),
        pytest.param('"window_tokens": 8', '"window_tokens": 9', id="window"),
        pytest.param('"key": "stream"', '"key": "strewm"', id="key"),
        pytest.param('"source": "ETH1"', '"source": "ETH3"', id="bus"),
    ],
)
def test_a_changed_value_in_bundle_json_is_refused(path: Path, before: str, after: str) -> None:
    """A bundle.json that still parses but says something else than was written is damaged as well."""
    text = (path / "bundle.json").read_text()
    if before not in text:  # the last of its object
        before, after = before.rstrip(","), after.rstrip(",")
    assert before in text
    (path / "bundle.json").write_text(text.replace(before, after, 1))
    assert "bundle.json" in refusal(path)


@pytest.mark.parametrize(
    "damage",
    [b"", b"null", b"[]", b"{}", b"\xff\xfe", b'{"format": 1}', pytest.param(b"[" * 100_000, id="deep")],
)
def test_something_else_in_bundle_json_is_refused(path: Path, damage: bytes) -> None:
    """Whatever else lies in bundle.json, the sentence names it."""
    (path / "bundle.json").write_bytes(damage)
    assert "bundle.json" in refusal(path)


def test_a_bundle_of_another_format_is_refused(path: Path) -> None:
    """The sentence says both versions and what to do."""
    text = (path / "bundle.json").read_text()
    assert '"format": 1' in text
    (path / "bundle.json").write_text(text.replace('"format": 1', '"format": 2', 1))
    sentence = refusal(path)
    assert "bundle.json has format 2, this version reads 1" in sentence
    assert "python -m training fit" in sentence


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    """Nothing, a file, an empty folder: each one a sentence."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("away")
    for name in ("nothing", "file"):
        assert refusal(tmp_path / name).endswith(f"{name}: not a bundle: there is no such folder")
    assert refusal(tmp_path / "link").endswith(": it is a link to away, which does not exist")
    assert "not a bundle: bundle.json" in refusal(tmp_path / "empty")


def test_an_unknown_tokenizer_is_refused(tmp_path: Path) -> None:
    """A bundle of a later release with another tokenizer is not read with this one."""
    info = bundle_info()
    info.tokenizer = "words"
    write_bundle(tmp_path / "b", info, bundle_files())
    assert "bundle.json names an unknown tokenizer 'words'" in refusal(tmp_path / "b")


def resigned(path: Path, changes: Mapping[str, bytes], pdus: list[BundlePdu] = PDUS) -> str:
    """The refusal of a bundle that was written with these contents, so that its checksums fit them."""
    write_bundle(path, bundle_info(pdus), {**bundle_files(), **changes})
    return refusal(path)


def test_a_vocabulary_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    """The model, tokenizer.json and bundle.json must agree about the tokens."""
    sentence = resigned(
        tmp_path / "a",
        {name: bundle_files(names=5)[name] for name in ("config.json", "model.safetensors")},
    )
    assert f"the tokenizer has {198 + 3} tokens, the model {198 + 5}" in sentence
    sentence = resigned(tmp_path / "b", {}, [*PDUS[:2], BundlePdu("other", "OTHER", "ETH1")])
    assert "tokenizer.json: its vocabulary is not that of bundle.json" in sentence


def config_with(**changes: Any) -> bytes:
    """config.json with some keys replaced."""
    return json.dumps(json.loads(bundle_files()["config.json"]) | changes).encode()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"tokenizer.json": b"{}"}, "tokenizer.json"),
        ({"tokenizer.json": b"\xff"}, "tokenizer.json"),
        ({"config.json": config_with(layer_types=["full_attention", *SLIDING])}, "config.json"),
        ({"config.json": b"{}"}, "config.json"),
        ({"config.json": b"[]"}, "config.json"),
        ({"config.json": b"{"}, "config.json cannot be read"),
        ({"config.json": b"[" * 200_000}, "config.json cannot be read"),
        ({"config.json": config_with(sliding_window=9)}, "window_tokens 8, the model a window of 9"),
        (
            {"config.json": config_with(num_hidden_layers=3, layer_types=SLIDING * 3)},
            "layers.2",
        ),
        ({"model.safetensors": b""}, "model.safetensors cannot be read"),
        ({"model.safetensors": b"\x08" + bytes(7) + b'{"a": 1}'}, "model.safetensors cannot be read"),
    ],
)
def test_files_that_are_whole_but_wrong_are_refused(
    tmp_path: Path, changes: dict[str, bytes], named: str
) -> None:
    """Contents that somebody wrote wrongly, with checksums that fit, are one sentence too."""
    assert named in resigned(tmp_path / "b", changes)


@pytest.mark.parametrize(
    ("name", "content"), [("config.json", b"{"), ("model.safetensors", b"x"), ("tokenizer.json", b"\xff")]
)
def test_the_file_that_is_wrong_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    """The sentence names the file that cannot be read."""
    assert name in resigned(tmp_path / "b", {name: content})


def test_a_device_that_fails_is_one_sentence_with_the_way_out(path: Path) -> None:
    """Whatever its library says becomes a configuration error; on a CPU it is a defect and stays one."""
    failing = Bundle(read_bundle(path))

    def fail() -> None:
        raise RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA")

    failing.network.warm_up = fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="CUDA error"):
        failing.warm_up()
    failing._device = torch.device("cuda:1")
    sentence = 'the model does not run on cuda:1: CUDA error: out of memory; scoring.device = "cpu" does'
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        failing.warm_up()


def test_every_error_is_one_for_the_user() -> None:
    """A refused bundle ends a run with exit code 2."""
    assert issubclass(BundleError, EcustreamError)
    assert BundleError.exit_code == 2
    assert [pdu.cycle_ns for pdu in PDUS] == list(CYCLES_NS.values())
