"""What fine-tuning did to lines, against a plain loop over them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from ecustream.errors import InputError
from ecustream.scores import FIELD_DELTA
from tests.training.tiny_models import VOCABULARY, batch_of, tiny_qwen2
from training.effects import Effects, effects
from training.objectives import count, make_objective
from training.shards import Piece, Shards
from training.splits import Part

torch.set_num_threads(1)

LENGTH = 16


def shards_of(lengths: list[int], labelled: list[bool] | None, fields: list[int], seed: int = 0) -> Shards:
    """Lines of so many random tokens; fields begin anew in every line."""
    random = np.random.default_rng(seed)
    return Shards(
        folder=Path("shards"),
        tokenizer="fields",
        vocabulary=VOCABULARY,
        pieces=[Piece("drive", "0" * 64, len(lengths), 0)],
        ids=random.integers(2, VOCABULARY, sum(lengths)).astype(np.uint16),
        fields=np.array([field for n in lengths for field in fields[:n]], np.int8),
        first_token=np.cumsum([0, *lengths]),
        labelled=None if labelled is None else np.array(labelled),
        tokenizer_json="",
    )


def uneven(lines: int = 120) -> Shards:
    """Lines of one to four tokens, of which the second and third are the delta; one in five labelled."""
    random = np.random.default_rng(1)
    lengths = random.integers(1, 5, lines).tolist()
    return shards_of(lengths, (random.random(lines) < 0.2).tolist(), [0, FIELD_DELTA, FIELD_DELTA, 2])


def by_a_loop(shards: Shards, parts: list[Part]) -> list[tuple[float, float | None, bool]]:
    """Nats, delta nats and label of each line that is scored, token by token."""
    model, rows = tiny_qwen2(), []
    assert shards.labelled is not None
    for part in parts:
        start = int(shards.first_token[part.first_line])
        while start + LENGTH <= shards.first_token[part.stop_line]:
            ids = torch.from_numpy(shards.ids[start : start + LENGTH].astype(np.int64))
            with torch.no_grad():
                log_p = torch.log_softmax(model(input_ids=ids[None]).logits[0], dim=-1)
            for line in range(part.first_line, part.stop_line):
                tokens = range(int(shards.first_token[line]), int(shards.first_token[line + 1]))
                if tokens[0] >= start + LENGTH // 2 and tokens[-1] < start + LENGTH:
                    nats = [-float(log_p[t - start - 1, ids[t - start]]) for t in tokens]
                    delta = [n for n, t in zip(nats, tokens, strict=True) if shards.fields[t] == FIELD_DELTA]
                    rows.append((sum(nats), sum(delta) if delta else None, bool(shards.labelled[line])))
            start += LENGTH
    return rows


@pytest.mark.parametrize("parts", [[Part(0, 120)], [Part(3, 50), Part(61, 120)]])
def test_effects_are_those_of_a_plain_loop(parts: list[Part]) -> None:
    """Means and rankings of the whole lines in second halves of windows, by the line and by the delta."""
    shards, model = uneven(), tiny_qwen2()
    got = effects(model, shards, parts, LENGTH)
    rows = by_a_loop(shards, parts)
    labels = [label for _, _, label in rows]
    timed = [(delta, label) for _, delta, label in rows if delta is not None]
    assert len(timed) < len(rows)
    assert got.labelled_lines == sum(labels) > 3
    assert got.unlabelled_lines == len(rows) - sum(labels)
    assert got.labelled_nats_per_line == pytest.approx(
        np.mean([n for n, _, label in rows if label]), rel=1e-5
    )
    assert got.unlabelled_nats_per_line == pytest.approx(
        np.mean([n for n, _, label in rows if not label]), rel=1e-5
    )
    nats = [n for n, _, _ in rows]
    assert got.auc == pytest.approx(roc_auc_score(labels, nats))
    assert got.average_precision == pytest.approx(average_precision_score(labels, nats))
    assert got.delta_auc == pytest.approx(roc_auc_score([b for _, b in timed], [a for a, _ in timed]))
    assert got.delta_average_precision == pytest.approx(
        average_precision_score([b for _, b in timed], [a for a, _ in timed])
    )


def test_long_parts_are_scored_in_evenly_spread_windows() -> None:
    """A third of the tokens: every third window, so a third of the lines, and at least one window."""
    shards = shards_of([2] * 240, [False] * 240, [0, FIELD_DELTA])
    lines = [
        effects(tiny_qwen2(), shards, [Part(0, 240)], LENGTH, most_tokens=most).unlabelled_lines
        for most in (480, 160, 1)
    ]
    assert lines == [30 * 4, 10 * 4, 4]


def test_what_cannot_be_said_is_none() -> None:
    """No labelled line, and no delta token: no mean of them and no ranking."""
    shards = shards_of([1] * 64, [False] * 64, [0])
    got = effects(tiny_qwen2(), shards, [Part(0, 64)], LENGTH)
    assert got == Effects(
        unlabelled_lines=32,
        labelled_lines=0,
        unlabelled_nats_per_line=got.unlabelled_nats_per_line,
        labelled_nats_per_line=None,
        auc=None,
        average_precision=None,
        delta_auc=None,
        delta_average_precision=None,
    )


def test_lines_longer_than_half_a_window_are_never_whole() -> None:
    """Then nothing is scored, and that is said."""
    got = effects(tiny_qwen2(), shards_of([10] * 8, [True, False] * 4, [0] * 10), [Part(0, 8)], LENGTH)
    assert (got.labelled_lines, got.unlabelled_lines, got.auc) == (0, 0, None)


def test_the_model_stays_in_its_mode() -> None:
    """Training or not, as it was; scored without dropout."""
    model, shards = tiny_qwen2(), uneven()
    modes: list[bool] = []
    model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    for training in (True, False):
        model.train(training)
        effects(model, shards, [Part(0, 120)], LENGTH)
        assert model.training is training
    assert modes
    assert not any(modes)


def test_without_labels_or_windows_it_is_refused() -> None:
    """In a sentence that names the shards."""
    with pytest.raises(InputError, match=r"shards: .*no labels"):
        effects(tiny_qwen2(), shards_of([2] * 40, None, [0, 1]), [Part(0, 40)], LENGTH)
    with pytest.raises(InputError, match=r"shards: no part .* 16 tokens"):
        effects(tiny_qwen2(), shards_of([2] * 40, [True] * 40, [0, 1]), [Part(0, 7)], LENGTH)


def test_fine_tuning_parts_labelled_from_unlabelled_lines() -> None:
    """A context that always comes before labelled lines: outlier exposure makes just those stand out."""
    lines = [(2, 3), (4, 5), (6, 7), (8, 9), (10, 11)]
    shards = shards_of([2] * 200, ([False] * 3 + [True, False]) * 40, [0, FIELD_DELTA])
    shards.ids[:] = np.array(lines * 40).ravel()
    model = tiny_qwen2()
    ids = torch.from_numpy(shards.ids[:61].astype(np.int64))[None]
    assert shards.labelled is not None
    inputs = batch_of(ids, torch.from_numpy(shards.labelled.repeat(2))[None, :61])
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    measured = []
    for name, steps in (("ce", 25), ("outlier_exposure", 15)):
        for _ in range(steps):
            optimiser.zero_grad()
            make_objective(name)(model, inputs, count(inputs)).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        measured.append(effects(model, shards, [Part(0, 200)], LENGTH))
    before, after = measured
    assert after.labelled_nats_per_line is not None
    assert before.labelled_nats_per_line is not None
    assert after.labelled_nats_per_line > before.labelled_nats_per_line + 1
    assert after.auc is not None
    assert after.auc > 0.95
