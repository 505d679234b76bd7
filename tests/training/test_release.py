"""From a bundle and labelled traffic to the bundle of a software release."""

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from ecustream.errors import ConfigError, InputError
from ecustream.scoring.bundle import load_bundle
from ecustream.scoring.manifest import read_bundle
from training.adapters import open_adapter, releases
from training.finetune import FinetuneSettings
from training.lora import merge, open_model
from training.release import FINETUNING, AdapterShelf, finetune
from training.simulate import draw_vehicle, write_trace

SETTINGS = FinetuneSettings(objective="mask", rank=2, lora_alpha=4, learning_rate=3e-3, max_clean_rise=None)
RECIPE = msgspec.structs.replace(FINETUNING, batch=2, max_steps=4, evaluate_every=2, warmup_steps=1)


@pytest.fixture(scope="module")
def tuned(
    bundle_path: Path, clean_trace: Path, faulty_trace: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with the bundle and the adapter of a first release."""
    folder = tmp_path_factory.mktemp("releases")
    shelf = AdapterShelf(folder / "adapters", "24.1")
    assert finetune(
        bundle_path, [faulty_trace], [clean_trace], folder / "24.1", SETTINGS, RECIPE, shelf=shelf
    )
    return folder


def test_the_new_bundle_scores_what_base_and_adapter_score(tuned: Path, bundle_path: Path) -> None:
    """It is a whole bundle: other weights, a calibration of its own, the same PDUs."""
    base, new = read_bundle(bundle_path), read_bundle(tuned / "24.1")
    assert new.data["model.safetensors"] != base.data["model.safetensors"]
    assert new.data["calibration.json"] != base.data["calibration.json"]
    assert new.info.pdus == base.info.pdus
    told = new.info.trained["finetuned"]
    assert told["settings"]["objective"] == "mask"
    assert [trace["name"] for trace in told["traces"]] == ["faulty.pcapng"]
    adapter = open_adapter(tuned / "adapters", "24.1", base.info.sha256["model.safetensors"])
    merged = merge(open_model(bundle_path), adapter.lora)
    network = load_bundle(tuned / "24.1").network
    ids = np.random.default_rng(1).integers(0, network.vocab, 50)
    logits = merged(input_ids=torch.from_numpy(ids)[None]).logits[0].detach()
    nats = -logits.log_softmax(-1)[np.arange(49), ids[1:]]
    np.testing.assert_allclose(network.score(ids, [(network.new_stream(), 50)]).nats[1:], nats, atol=1e-4)


def test_a_release_continues_from_another_and_replays_old_traffic(
    tuned: Path, bundle_path: Path, clean_trace: Path, faulty_trace: Path, tmp_path: Path
) -> None:
    """Both stay on the shelf, the second names the first."""
    folder = tmp_path / "adapters"
    shutil.copytree(tuned / "adapters", folder)
    settings = msgspec.structs.replace(SETTINGS, replay_share=0.5)
    finetune(
        bundle_path,
        [faulty_trace],
        [clean_trace],
        tmp_path / "24.2",
        settings,
        RECIPE,
        replay=[clean_trace],
        shelf=AdapterShelf(folder, "24.2", "24.1"),
    )
    assert list(releases(folder)) == ["24.1", "24.2"]
    base = read_bundle(bundle_path).info.sha256["model.safetensors"]
    assert open_adapter(folder, "24.2", base).release.parent == "24.1"
    told = read_bundle(tmp_path / "24.2").info.trained["finetuned"]
    assert [trace["name"] for trace in told["replay"]] == ["clean.pcapng"]


def test_a_run_that_is_resumed_at_its_end_gives_the_same_bundle(
    bundle_path: Path, clean_trace: Path, faulty_trace: Path, tmp_path: Path
) -> None:
    """Shards and checkpoints lie in the working folder."""
    for out, resume in (("first", False), ("again", True)):
        finetune(
            bundle_path,
            [faulty_trace],
            [clean_trace],
            tmp_path / out,
            SETTINGS,
            msgspec.structs.replace(RECIPE, save_every=2),
            work=tmp_path / "work",
            resume=resume,
        )
    first, again = (read_bundle(tmp_path / out).data["model.safetensors"] for out in ("first", "again"))
    assert first == again


class TestRefused:
    def test_labels_that_are_not_there(
        self, bundle_path: Path, clean_trace: Path, faulty_trace: Path, tmp_path: Path
    ) -> None:
        """The sentence says how to make them."""
        alone = tmp_path / "alone.pcapng"
        shutil.copy(faulty_trace, alone)
        with pytest.raises(
            InputError, match=r"alone\.annotator\.jsonl: is not there; `python -m training ann"
        ):
            finetune(bundle_path, [alone], [clean_trace], tmp_path / "out", SETTINGS, RECIPE)
        assert not (tmp_path / "out").exists()

    def test_labels_of_another_trace(
        self, bundle_path: Path, clean_trace: Path, faulty_trace: Path, tmp_path: Path
    ) -> None:
        """Nothing is written, neither bundle nor shards."""
        moved = tmp_path / "moved.pcapng"
        shutil.copy(faulty_trace, moved)
        label = {"start_ns": 10**18, "end_ns": 10**18 + 1, "kind": "delay"}
        (tmp_path / "moved.annotator.jsonl").write_text(json.dumps(label))
        with pytest.raises(
            InputError, match=r"label 1 \(delay, .* before its start\) lies outside the trace"
        ):
            finetune(
                bundle_path,
                [moved],
                [clean_trace],
                tmp_path / "out",
                SETTINGS,
                RECIPE,
                work=tmp_path / "work",
            )
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "work" / "shards").exists()

    def test_traffic_of_another_vehicle(self, bundle_path: Path, clean_trace: Path, tmp_path: Path) -> None:
        """A model cannot learn names that its vocabulary has no tokens for."""
        other = tmp_path / "other.pcapng"
        write_trace(draw_vehicle("bench", seed=99), other, seconds=10, drive=1, faults="heavy")
        with pytest.raises(InputError, match=r"does not know the PDUs of \d+ % of these lines, \w+ for one"):
            finetune(bundle_path, [other], [clean_trace], tmp_path / "out", SETTINGS, RECIPE)
        with pytest.raises(InputError, match=r"does not know \d+ PDUs of this traffic, \w+ for one"):
            finetune(bundle_path, [clean_trace], [other], tmp_path / "out", SETTINGS, RECIPE)

    def test_no_clean_trace(self, bundle_path: Path, faulty_trace: Path, tmp_path: Path) -> None:
        """Thresholds of the old scores would mean nothing."""
        with pytest.raises(ConfigError, match="give clean traces to calibrate them anew"):
            finetune(bundle_path, [faulty_trace], [], tmp_path / "out", SETTINGS, RECIPE)
