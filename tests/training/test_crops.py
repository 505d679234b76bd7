"""Crops and lanes: what they give is the traffic itself, everywhere and in order.

Token ids of the shards here are places: id n is the n-th token, so that an item tells where it is from.
"""

import pickle
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from ecustream.errors import ConfigError, InputError
from ecustream.scoring.tokenizer import UNKNOWN_TOKEN
from tests.training.shards_for_tests import made_shards, shards_of_widths
from training.crops import Crops, Item, Lanes, windows_of
from training.shards import Shards
from training.splits import Part, split

WIDTHS = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=40), min_size=1, max_size=4)


def whole(shards: Shards) -> list[Part]:
    return [Part(piece.first_line, piece.first_line + piece.lines) for piece in shards.pieces]


def spans(shards: Shards, parts: Sequence[Part]) -> list[tuple[int, int]]:
    """First and stop token of each part."""
    return [(int(shards.first_token[a]), int(shards.first_token[b])) for a, b in parts]


def longest(shards: Shards) -> int:
    return max(stop - first for first, stop in spans(shards, whole(shards)))


def items_of(data: Crops | Lanes) -> list[Item]:
    return [data[i] for i in range(len(data))]


def lines_of(shards: Shards, tokens: Sequence[int]) -> list[int]:
    """The line of each token."""
    firsts = shards.first_token.tolist()
    return [bisect_right(firsts, token) - 1 for token in tokens]


def check_item(shards: Shards, item: Item, length: int) -> None:
    """All columns of an item say what the shards say of its targets."""
    targets = item["targets"].tolist()
    assert {name: (column.dtype, tuple(column.shape)) for name, column in item.items()} == {
        "input_ids": (torch.int64, (length,)),
        "targets": (torch.int64, (length,)),
        "labelled": (torch.bool, (length,)),
        "fields": (torch.int64, (length,)),
        "lines": (torch.int64, ()),
        **({"lane": (torch.int64, ()), "fresh": (torch.bool, ())} if "lane" in item else {}),
    }
    lines = lines_of(shards, targets)
    assert item["fields"].tolist() == [int(shards.fields[token]) for token in targets]
    assert item["labelled"].tolist() == [
        shards.labelled is not None and bool(shards.labelled[line]) for line in lines
    ]
    firsts = set(shards.first_token.tolist())
    assert item["lines"] == sum(token in firsts for token in targets)


@settings(max_examples=100, deadline=None)
@given(WIDTHS, st.integers(1, 30), st.integers(0, 9), st.booleans(), st.data())
def test_a_crop_is_consecutive_tokens_from_a_line_on(
    widths: list[list[int]], length: int, seed: int, labelled: bool, data: st.DataObject
) -> None:
    """It lies within one part, and begins with a line or is the part's last whole sequence."""
    shards = shards_of_widths(widths, labelled)
    length = min(length, longest(shards) - 1)
    if length < 1:
        return
    crops = Crops(shards, whole(shards), length, 1000, seed)
    item = crops[data.draw(st.integers(0, 999))]
    check_item(shards, item, length)
    start, stop = int(item["input_ids"][0]), int(item["targets"][-1]) + 1
    assert item["input_ids"].tolist() == list(range(start, stop - 1))
    assert item["targets"].tolist() == list(range(start + 1, stop))
    within = [part for part in spans(shards, whole(shards)) if part[0] <= start and stop <= part[1]]
    assert within
    assert start in shards.first_token or stop == within[0][1]


@settings(max_examples=5, deadline=None)
@given(WIDTHS, st.integers(4, 30), st.integers(0, 9), st.sampled_from([0.0, 0.1]))
def test_crops_reach_every_token(widths: list[list[int]], length: int, seed: int, drop_lines: float) -> None:
    """Of every part that is long enough, each token but the first is a target, the last ones, too."""
    shards = shards_of_widths([*widths, [4, 2, 3, 4]])
    length = min(length, longest(shards) - 1)
    crops = Crops(shards, whole(shards), length, 4000, seed, drop_lines=drop_lines)
    seen: set[int] = set()
    for item in items_of(crops):
        seen.update(item["targets"].tolist())
    long_enough = [part for part in spans(shards, whole(shards)) if part[1] - part[0] > length]
    assert seen == {token for first, stop in long_enough for token in range(first + 1, stop)}


@settings(max_examples=100, deadline=None)
@given(WIDTHS, st.integers(1, 30), st.integers(0, 9), st.sampled_from([0.1, 0.5, 0.95]), st.integers(0, 99))
def test_dropping_leaves_out_whole_lines(
    widths: list[list[int]], length: int, seed: int, drop_lines: float, index: int
) -> None:
    """The others stay in order, within one part; at a part's end nothing is left out."""
    shards = shards_of_widths(widths, labelled=True)
    length = min(length, longest(shards) - 1)
    if length < 1:
        return
    item = Crops(shards, whole(shards), length, 100, seed, drop_lines=drop_lines)[index]
    check_item(shards, item, length)
    tokens = [*item["input_ids"].tolist(), int(item["targets"][-1])]
    assert tokens[1:] == item["targets"].tolist()
    assert tokens == sorted(set(tokens))
    part = next((a, b) for a, b in spans(shards, whole(shards)) if a <= tokens[0] < b)
    assert tokens[-1] < part[1]
    if tokens == list(range(part[1] - length - 1, part[1])):
        return
    last_line = lines_of(shards, tokens)[-1]
    for line in set(lines_of(shards, tokens)) - {last_line}:
        assert set(range(*shards.first_token[[line, line + 1]].tolist())) <= set(tokens)
    assert tokens[0] in shards.first_token


def test_up_to_a_share_of_the_lines_is_dropped() -> None:
    """Each crop draws its own share, evenly between none and the most: half of the most on the average."""
    shards = shards_of_widths([[2] * 20_000])
    left_out = []
    for item in items_of(Crops(shards, whole(shards), 400, 300, 1, drop_lines=0.4)):
        first, last = int(item["input_ids"][0]), int(item["targets"][-1])
        left_out.append(1 - 401 / (last - first + 1))
    assert np.mean(left_out) == pytest.approx(0.2, abs=0.02)
    assert 0 <= min(left_out) < 0.02
    assert 0.35 < max(left_out) < 0.5


@pytest.mark.parametrize("kind", ["crops", "lanes"])
def test_masking_hides_inputs_and_no_targets(kind: str) -> None:
    """About the asked share of the inputs is the unknown token, other ones in every item."""
    shards = shards_of_widths([[3] * 2000])
    data = (
        Crops(shards, whole(shards), 500, 20, 1, mask_tokens=0.2)
        if kind == "crops"
        else Lanes(shards, whole(shards), 500, 20, 1, 4, mask_tokens=0.2)
    )
    masks = []
    for i in range(20):
        item = data[i]
        places = item["targets"] - 1
        masks.append(item["input_ids"] != places)
        assert (item["input_ids"][masks[-1]] == UNKNOWN_TOKEN).all()
        check_item(shards, item, 500)
    share = torch.stack(masks).float()
    assert share.mean().item() == pytest.approx(0.2, abs=0.02)
    assert share.mean(0).max() < 0.7


def test_parts_are_drawn_by_their_tokens() -> None:
    """A part with three times the tokens gives three times the crops, short ones give none."""
    shards = shards_of_widths([[2] * 1000, [2] * 5, [2] * 3000])
    starts = [int(item["input_ids"][0]) for item in items_of(Crops(shards, whole(shards), 20, 2000, 5))]
    first, second = sum(start < 2000 for start in starts), sum(2000 <= start < 2010 for start in starts)
    assert first / len(starts) == pytest.approx(0.25, abs=0.03)
    assert second == 0


@pytest.mark.parametrize("kind", ["crops", "lanes"])
def test_items_depend_on_seed_and_number_alone(kind: str, tmp_path: Path) -> None:
    """Asked in another order, in another object or by two workers, they are the same; not by another seed."""
    shards = made_shards(tmp_path / "s", [700, 900], 40, 1, 0.1)

    def made(seed: int) -> Crops | Lanes:
        parts = split(shards).train
        if kind == "crops":
            return Crops(shards, parts, 32, 60, seed, mask_tokens=0.1, drop_lines=0.1)
        return Lanes(shards, parts, 32, 480, seed, 6, mask_tokens=0.1)

    once = items_of(made(3))
    again = made(3)
    for i in reversed(range(len(once))):
        assert all(torch.equal(once[i][name], again[i][name]) for name in once[i])
    sent = pickle.loads(pickle.dumps(made(3)))
    assert torch.equal(sent[41]["input_ids"], once[41]["input_ids"])
    assert not all(
        torch.equal(a["targets"], b["targets"]) for a, b in zip(once, items_of(made(4)), strict=True)
    )
    alone = [batch["input_ids"] for batch in DataLoader(made(3), batch_size=4)]
    spread = [batch["input_ids"] for batch in DataLoader(made(3), batch_size=4, num_workers=2)]
    assert torch.equal(torch.cat(alone), torch.cat(spread))
    assert torch.equal(torch.cat(alone)[: len(once)], torch.stack([item["input_ids"] for item in once]))


@settings(max_examples=50, deadline=None)
@given(WIDTHS, st.integers(1, 30), st.integers(0, 9), st.integers(1, 5), st.booleans())
def test_a_lane_carries_on_or_begins_anew(
    widths: list[list[int]], length: int, seed: int, lanes: int, labelled: bool
) -> None:
    """What is not fresh continues the item before; a lane leaves a part only where no item is left in it."""
    shards = shards_of_widths(widths, labelled)
    length = min(length, longest(shards) - 1)
    if length < 1:
        return
    data = Lanes(shards, whole(shards), length, 60 * lanes, seed, lanes)
    parts = [part for part in spans(shards, whole(shards)) if part[1] - part[0] > length]
    last: dict[int, int] = {}
    order: dict[int, list[int]] = {}
    for i, item in enumerate(items_of(data)):
        lane = int(item["lane"])
        assert lane == i % lanes
        check_item(shards, item, length)
        start, target = int(item["input_ids"][0]), int(item["targets"][-1])
        assert item["input_ids"].tolist() == list(range(start, target))
        assert item["targets"].tolist() == list(range(start + 1, target + 1))
        at = next(k for k, (first, stop) in enumerate(parts) if first <= start < stop)
        assert target < parts[at][1]
        if not item["fresh"]:
            assert start == last[lane]
        else:
            assert start in shards.first_token
            if lane in last:
                before = order[lane][-1]
                assert last[lane] + length >= parts[before][1]  # no whole item was left there
                assert start < parts[at][0] + length
                assert at == (before + 1) % len(parts)
            order.setdefault(lane, []).append(at)
        last[lane] = target


def test_lanes_are_in_different_places_and_see_all_alike() -> None:
    """Eight lanes of long traffic are never near each other, and each stretch is seen about as often."""
    shards = shards_of_widths([[2] * 1500, [2] * 900, [3] * 2200])
    tokens = len(shards.ids)
    data = Lanes(shards, whole(shards), 50, 8 * 600, 11, 8)
    seen = np.zeros(tokens)
    for step in range(600):
        starts = sorted(int(data[8 * step + lane]["input_ids"][0]) for lane in range(8))
        assert min(np.diff(starts)) > tokens / 8 / 3
        for start in starts:
            seen[start : start + 50] += 1
    stretches = seen[: tokens // 100 * 100].reshape(-1, 100).mean(1) / seen.mean()
    assert stretches.min() > 0.5
    assert stretches.max() < 1.2
    begun = [int(data[lane]["input_ids"][0]) for lane in range(8)]
    other = Lanes(shards, whole(shards), 50, 8, 12, 8)
    assert begun != [int(other[lane]["input_ids"][0]) for lane in range(8)]


def test_a_far_item_is_found_at_once() -> None:
    """A resumed run asks for a late item first; it is the one that comes there in order."""
    shards = shards_of_widths([[2] * 50, [3] * 20, [1] * 33])
    once = Lanes(shards, whole(shards), 10, 40_000, 2, 4)
    targets = [once[i]["targets"] for i in range(3, 40_000, 4)]
    fresh = Lanes(shards, whole(shards), 10, 40_000, 2, 4)
    assert torch.equal(fresh[39_999]["targets"], targets[-1])
    assert torch.equal(fresh[20_003]["targets"], targets[5000])


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_have_lanes_of_their_own(processes: int) -> None:
    """Where batches are dealt out in turn, each process has lanes of its own, in one process's items."""
    shards = shards_of_widths([[2] * 400])
    data = Lanes(shards, whole(shards), 10, 8 * 30, 7, 8)
    batch = 8 // processes
    dealt: list[set[int]] = [set() for _ in range(processes)]
    for number in range(30 * processes):
        items = [data[i] for i in range(number * batch, (number + 1) * batch)]
        dealt[number % processes].update(int(item["lane"]) for item in items)
    assert sum(len(lanes) for lanes in dealt) == 8


@pytest.mark.parametrize("kind", ["crops", "lanes"])
def test_too_little_traffic_is_a_sentence(kind: str) -> None:
    """One part must hold a sequence and its last target; the sentence says how long the longest is."""
    shards = shards_of_widths([[2] * 10, [2] * 8])

    def made(length: int) -> Crops | Lanes:
        parts = whole(shards)
        return (
            Crops(shards, parts, length, 5, 0) if kind == "crops" else Lanes(shards, parts, length, 5, 0, 1)
        )

    said = (
        r"too little traffic to train on: needs pieces of more than 20 tokens \(about 10 lines\), .* has 20"
    )
    with pytest.raises(InputError, match=said):
        made(20)
    assert made(19)[4]["targets"].tolist() == list(range(1, 20))
    with pytest.raises(InputError, match="the longest has 0"):
        Crops(shards, [], 4, 5, 0)


def test_impossible_settings_are_refused() -> None:
    """Shares of everything, no token, no lane: a sentence each."""
    shards = shards_of_widths([[2] * 10])
    parts = whole(shards)
    with pytest.raises(ConfigError, match="masked tokens must be at least 0 and below 1, not 1"):
        Crops(shards, parts, 4, 5, 0, mask_tokens=1.0)
    with pytest.raises(ConfigError, match=r"dropped lines must be at least 0 and below 1, not -0\.1"):
        Crops(shards, parts, 4, 5, 0, drop_lines=-0.1)
    with pytest.raises(ConfigError, match="at least one token, not 0"):
        Crops(shards, parts, 0, 5, 0)
    with pytest.raises(ConfigError, match="at least one lane is needed, not 0"):
        Lanes(shards, parts, 4, 5, 0, 0)


@pytest.mark.parametrize("index", [-1, 5])
def test_items_end(index: int) -> None:
    """There are as many as asked for."""
    shards = shards_of_widths([[2] * 10])
    for data in (Crops(shards, whole(shards), 4, 5, 0), Lanes(shards, whole(shards), 4, 5, 0, 2)):
        assert len(data) == len(items_of(data)) == 5
        with pytest.raises(IndexError):
            data[index]


@given(WIDTHS, st.integers(1, 30))
@settings(deadline=None)
def test_windows_are_all_that_fit_side_by_side(widths: list[list[int]], length: int) -> None:
    """From each part's first token on, whole ones only."""
    shards = shards_of_widths(widths)
    expected = []
    for first, stop in spans(shards, whole(shards)):
        while first + length <= stop:
            expected.append(first)
            first += length
    windows = windows_of(whole(shards), shards, length)
    assert windows.dtype == np.int64
    assert windows.tolist() == expected
