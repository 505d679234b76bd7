"""The papers' definitions written out threshold by threshold and point by point; times are 0, 1, 2, ..."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Points = list[float]


def stretches(flags: list[bool]) -> list[tuple[int, int]]:
    """First and last position of each run."""
    runs: list[tuple[int, int]] = []
    for i, flag in enumerate(flags):
        if flag and runs and runs[-1][1] == i - 1:
            runs[-1] = (runs[-1][0], i)
        elif flag:
            runs.append((i, i))
    return runs


def told_sets(scores: Points) -> Iterator[list[bool]]:
    """What each threshold tells, from the highest down."""
    for threshold in sorted(set(scores), reverse=True):
        yield [score >= threshold for score in scores]


def steps(points: list[tuple[float, float]]) -> float:
    """Area under precision over recall."""
    total, best = 0.0, 0.0
    for precision, recall in points:
        if recall >= best:
            total += (recall - best) * precision
            best = recall
    return total


def soft(labels: list[bool], buffer: int) -> Points:
    """Continuous labels of Paparrizos et al. 2022."""
    out = [float(label) for label in labels]
    for start, end in stretches(labels):
        for i in range(len(labels)):
            distance = max(start - i, i - end)
            if 0 < distance <= buffer // 2:
                out[i] += math.sqrt(1 - distance / buffer)
    return [min(value, 1.0) for value in out]


def range_auc(labels: list[bool], scores: Points, buffer: int) -> float:
    """RangeAUC-PR."""
    weights = soft(labels, buffer)
    regions = stretches([weight > 0 for weight in weights])
    positives = (sum(labels) + sum(weights)) / 2
    points = []
    for told in told_sets(scores):
        true = sum(weight for weight, flag in zip(weights, told, strict=True) if flag)
        exists = sum(any(told[start : end + 1]) for start, end in regions) / len(regions)
        points.append((true / sum(told), min(true / positives, 1.0) * exists))
    return steps(points)


def pate_area(labels: list[bool], scores: Points, early: int, late: int) -> float:
    """Area of one pair of buffers, Ghorbani et al. 2024, with all told lines of a fault for its coverage."""
    faults = stretches(labels)
    zones = []
    before_end = -1
    for number, (start, end) in enumerate(faults):
        following = faults[number + 1][0] if number + 1 < len(faults) else len(labels)
        late_end = min(end + late, following - 1)
        zones.append((max(0, start - early, before_end + 1), late_end))
        before_end = late_end
    points = []
    for told in told_sets(scores):
        true = missed = 0.0
        for (start, end), (early_start, late_end) in zip(faults, zones, strict=True):
            fault = range(start, end + 1)
            found = sum(told[i] for i in fault)
            true += found
            for i in range(end + 1, late_end + 1):
                true += told[i] * (1 - sum(i - y for y in fault) / sum(late_end - y for y in fault))
            for i in range(early_start, start):
                near = 1 - sum(y - i for y in fault) / sum(y - early_start for y in fault)
                true += told[i] * (near if found else 0.0)
            for i in fault:
                if told[i]:
                    continue
                if not found or i <= start + found:
                    missed += 1
                else:
                    far = sum(i - y for y in range(start, start + found + 1))
                    missed += 1 - far / sum(end - y for y in fault)
        points.append((true / sum(told), true / (true + missed)))
    return steps(points)


def affiliation_by_counting(
    told: list[tuple[int, int]], faults: list[tuple[int, int]], length: int, grain: int
) -> tuple[float | None, float]:
    """Precision and recall of Huet et al. 2022, probabilities counted at `grain` points a unit."""
    moments = (np.arange(length * grain) + 0.5) / grain
    alarmed = _inside(moments, told)
    edges = [0.0, *((a[1] + b[0]) / 2 for a, b in itertools.pairwise(faults)), float(length)]
    precisions, recalls = [], []
    for (start, end), low, high in zip(faults, edges, edges[1:], strict=False):
        zone = moments[(moments > low) & (moments < high)]
        alarms = moments[(moments > low) & (moments < high) & alarmed]
        if not len(alarms):
            recalls.append(0.0)
            continue
        far = _distance(zone, start, end)
        precisions.append(
            np.mean([1.0 if d == 0 else np.mean(far > d) for d in _distance(alarms, start, end)])
        )
        fault = zone[(zone > start) & (zone < end)]
        survival = []
        for moment in fault:
            nearest = np.abs(alarms - moment).min()
            survival.append(
                1.0 if _inside(np.array([moment]), told)[0] else np.mean(np.abs(zone - moment) > nearest)
            )
        recalls.append(float(np.mean(survival)))
    return (float(np.mean(precisions)) if precisions else None), float(np.mean(recalls))


def _inside(moments: npt.NDArray[np.float64], spans: list[tuple[int, int]]) -> npt.NDArray[np.bool_]:
    inside = np.zeros(len(moments), np.bool_)
    for start, end in spans:
        inside |= (moments > start) & (moments < end)
    return inside


def _distance(moments: npt.NDArray[np.float64], start: int, end: int) -> npt.NDArray[np.float64]:
    return np.maximum(np.maximum(start - moments, moments - end), 0.0)
