"""How a model takes the place of another one, with real ones, and what is done when one is lost."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ecustream.config import Config
from ecustream.errors import BundleError
from ecustream.ledger import Ledger
from ecustream.run.model import Model
from ecustream.run.source import TraceLines
from ecustream.run.succession import Succession, refuse_other_lines
from ecustream.scoring.manifest import BundleFiles, read_bundle
from ecustream.scoring.scorer import ScoredStream
from ecustream.stages import StageClock
from ecustream.traffic import Line

S = 1_000_000_000


def load(files: BundleFiles, device: str | None = None) -> Model:
    """A model for one stream."""
    return Model(files, Config(), 1, StageClock(enabled=False), device)


@pytest.fixture(scope="module")
def files(bundle_path: Path) -> BundleFiles:
    """Of the small bundle."""
    return read_bundle(bundle_path)


@pytest.fixture(scope="module")
def lines(clean_trace: Path) -> list[Line]:
    """Some thousand lines, named as the bundle has them."""
    from ecustream.decode.names import NameTable

    names = NameTable.load(clean_trace.with_suffix(".names.csv"))
    return [line for batch in TraceLines(clean_trace, Ledger(), names=names) for line in batch][:3000]


class House:
    """A succession, what it said, and what it was asked to load."""

    def __init__(self, first: Model, loads: Callable[[BundleFiles | None, str | None], Model]) -> None:
        self.said: list[tuple[str, str]] = []
        self.asked: list[str | None] = []
        self._loads = loads
        self.succession = Succession(first, self._load, lambda level, words: self.said.append((level, words)))

    def _load(self, files: BundleFiles | None, device: str | None) -> Model:
        self.asked.append(device)
        return self._loads(files, device)

    def wait(self, now_ns: int, recent: list[Line] | None = None) -> Model | None:
        """Look until what was begun has ended; the model that took over."""
        end_s = time.monotonic() + 60
        model = self.succession.look(now_ns, lambda: [recent or []])
        while model is None and self.succession._loading is not None:
            assert time.monotonic() < end_s
            time.sleep(0.005)
            model = self.succession.look(now_ns, lambda: [recent or []])
        return model


def fail(error: BaseException) -> Callable[..., Model]:
    """Something that raises when it is called."""

    def raising(*_: object) -> Model:
        raise error

    return raising


def lose(house: House, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network raises from now on."""
    model = house.succession.model
    assert model is not None
    monkeypatch.setattr(model.scorer, "score", fail(error))
    assert house.succession.score([]) is None


class TestReload:
    def test_another_bundle_takes_over(self, files: BundleFiles) -> None:
        """It is loaded beside the old one, which scores meanwhile; then it is told that it is there."""
        first = load(files)
        house = House(first, lambda _, device: load(files, device))
        assert house.wait(0) is None
        house.succession.reload()
        assert house.succession.reloading
        second = house.wait(0)
        assert second is not None
        assert second is house.succession.model is not first
        assert not house.succession.reloading
        assert house.said == [("info", f"{files.path}: the bundle was replaced")]
        assert house.succession.trouble is None

    @pytest.mark.parametrize(
        "error", [BundleError("it is damaged"), RuntimeError("it is damaged"), OSError()]
    )
    def test_the_old_one_stays_where_the_new_one_is_refused(
        self, files: BundleFiles, error: Exception
    ) -> None:
        """With one sentence on why; another reload can be asked for."""
        first = load(files)
        house = House(first, fail(error))
        for _ in range(2):
            house.succession.reload()
            assert house.wait(0) is None
            assert house.succession.model is first
            assert not house.succession.reloading
        why = str(error) or "OSError"
        assert house.said == [("error", f"the bundle was not replaced: {why}; the one before stays")] * 2

    def test_asked_twice_is_done_twice(self, files: BundleFiles) -> None:
        """What was asked for while one was being loaded may be newer than that."""
        house = House(load(files), lambda _, device: load(files, device))
        house.succession.reload()
        house.succession.look(0, list)
        house.succession.reload()
        assert house.wait(0) is not None
        assert house.succession.reloading
        assert house.wait(0) is not None
        assert not house.succession.reloading
        assert house.asked == [None, None]


class TestOtherLines:
    def test_other_names_are_refused(self, files: BundleFiles) -> None:
        """The lines are named already, unless the configuration names them."""
        other = msgspec.structs.replace(files.info, names=[*files.info.names, files.info.names[0]])
        changed = BundleFiles(files.path, other, files.data)
        with pytest.raises(BundleError, match="has other PDU names than this run began with"):
            refuse_other_lines(changed, files.info, names_given=False)
        refuse_other_lines(changed, files.info, names_given=True)
        refuse_other_lines(files, files.info, names_given=False)

    def test_another_key_is_refused(self, files: BundleFiles) -> None:
        """What "the same PDU" means is in every line."""
        other = msgspec.structs.replace(files.info, key="name")
        with pytest.raises(BundleError, match=r"was trained with input\.key = 'name', this run has 'stream'"):
            refuse_other_lines(BundleFiles(files.path, other, files.data), files.info, names_given=True)


class TestLoss:
    def test_it_is_loaded_again(
        self, files: BundleFiles, monkeypatch: pytest.MonkeyPatch, lines: list[Line]
    ) -> None:
        """A CPU that was short of memory is tried again at once."""

        def load_the_same(same: BundleFiles | None, device: str | None) -> Model:
            assert same is not None
            return load(same, device)

        house = House(load(files), load_the_same)
        lose(house, MemoryError(), monkeypatch)
        assert house.succession.model is None
        assert house.succession.trouble == (
            "the model on cpu was lost (MemoryError); deadlines and intervals are still watched, "
            "without a model"
        )
        assert house.wait(0, lines) is house.succession.model is not None
        assert house.succession.trouble is None
        assert [level for level, _ in house.said] == ["error", "info"]
        assert house.said[1][1] == "lines are scored again, on cpu"

    def test_one_that_is_lost_at_once_is_not_loaded_without_end(
        self, files: BundleFiles, monkeypatch: pytest.MonkeyPatch, lines: list[Line]
    ) -> None:
        """It waits for the end of the minute; later, it is tried again at once."""
        house = House(load(files), lambda _, device: load(files, device))
        lose(house, MemoryError(), monkeypatch)
        assert house.wait(5, lines) is not None
        assert house.wait(59 * S, lines) is None
        lose(house, MemoryError(), monkeypatch)
        assert house.wait(5 + 60 * S - 1, lines) is None
        assert house.asked == [None]
        assert house.wait(5 + 60 * S, lines) is not None
        assert house.wait(5 + 121 * S, lines) is None
        lose(house, MemoryError(), monkeypatch)
        assert house.wait(5 + 121 * S, lines) is not None
        assert house.asked == [None] * 3

    def test_it_falls_back_to_the_cpu(
        self, files: BundleFiles, monkeypatch: pytest.MonkeyPatch, lines: list[Line]
    ) -> None:
        """A GPU that was lost is not asked again; the state stays degraded until a reload."""
        first = load(files)
        first.device = "cuda"
        house = House(first, lambda files_, _: load(files_ or files, "cpu"))
        lose(house, RuntimeError("CUDA error: unspecified launch failure\nand more"), monkeypatch)
        model = house.wait(0, lines)
        assert model is not None
        assert house.asked == ["cpu"]
        assert house.succession.trouble == (
            "the model on cuda was lost (CUDA error: unspecified launch failure); scored on cpu since then"
        )
        assert [level for level, _ in house.said] == ["error", "warning"]
        house.succession.reload()
        reloaded = house.wait(0)
        assert reloaded is not None
        assert house.asked == ["cpu", None]

    def test_a_cpu_that_cannot_keep_up_is_not_used(
        self, files: BundleFiles, monkeypatch: pytest.MonkeyPatch, lines: list[Line]
    ) -> None:
        """There is no model then; a minute later both are tried again, the GPU first."""
        first = load(files)
        first.device = "cuda"
        house = House(first, lambda files_, _: load(files_ or files, "cpu"))
        monkeypatch.setattr(Model, "lines_per_s", lambda self, lines: 10.0)
        lose(house, RuntimeError("CUDA error: out of memory"), monkeypatch)
        assert house.wait(5, lines) is None
        needed = len(lines) / ((lines[-1].time_ns - lines[0].time_ns) / 1e9)
        assert house.succession.trouble == (
            f"the model on cuda was lost (CUDA error: out of memory); the CPU scores 10 lines/s, and "
            f"{needed:,.0f} come; deadlines and intervals are still watched, without a model"
        )
        assert house.wait(5 + 60 * S - 1, lines) is None
        assert house.asked == ["cpu"]
        assert house.wait(5 + 60 * S, lines) is not None
        assert house.asked == ["cpu", None]

    def test_a_reload_ends_the_loss(self, files: BundleFiles, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also where nothing helped before."""
        tries = iter([fail(BundleError("no")), fail(BundleError("no")), lambda *_: load(files)])

        def load_next(files: BundleFiles | None, device: str | None) -> Model:
            return next(tries)(files, device)

        house = House(load(files), load_next)
        lose(house, RuntimeError("gone"), monkeypatch)
        assert house.wait(0) is None
        assert house.succession.trouble is not None
        house.succession.reload()
        assert house.wait(1) is None
        assert house.said[-1] == ("error", "the bundle was not replaced: no")
        house.succession.reload()
        assert house.wait(1) is not None
        assert house.succession.trouble is None


class TestModel:
    def test_its_rate_is_measured(self, files: BundleFiles, lines: list[Line]) -> None:
        """Some hundred lines a second at the very least, and nothing is remembered of it."""
        model = load(files)
        stream: ScoredStream = model.open_stream()
        fresh = model.scorer.score([(stream, lines[:50])])[0].field_nats
        assert 100 < model.lines_per_s(lines) < float("inf")
        assert model.lines_per_s([]) == float("inf")
        stream.reset()
        again = model.scorer.score([(stream, lines[:50])])[0].field_nats
        np.testing.assert_allclose(again, fresh, atol=1e-4, equal_nan=True)

    def test_a_damaged_bundle_is_refused(self, bundle_path: Path, tmp_path: Path) -> None:
        """As at the start."""
        shutil.copytree(bundle_path, tmp_path / "bundle")
        (tmp_path / "bundle" / "model.safetensors").write_bytes(b"nothing")
        with pytest.raises(BundleError):
            load(read_bundle(tmp_path / "bundle"))
