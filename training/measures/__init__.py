"""How good a detector is, measured so that neither chance, long alarms nor the test set can flatter it.

Arrays in, numbers out; nothing here reads a file. `intervals` and `levels` are what the rest stands on.

- `events`: faults found, false episodes, delays; `rates`: false alarms an hour with their exact interval.
- `lines`: precision, recall, F1 and average precision of lines; `regions`: the same by region.
- `ranges`, `proximity`, `affiliation`: published measures over time; `bins` makes scores fit for them.
- `score_plot`, `recall_plot`, `page`: pictures as SVG text and a report as one HTML page.

Point-adjusted F1 is left out on purpose: a random score reaches the state of the art by it (Kim et al., arXiv
2109.05257). Compare detectors at a budget of false alarms first, and put a random score and the interval
rule beside each.
"""
