"""The experiments of the reference paper (arXiv 2507.01077) again, on simulated traffic, with corrections.

- `paper`: its figures; `plan`: what is run at each scale, as pure data; `scales`: the three plans.
- `traffic`: simulates what a plan asks for; `records`: one JSON for each run, so that a plan can be resumed.
- `executor`: runs a plan by `predicting` (next tokens), `objectives` (fine-tuning) and `sensitivity`
  (figure 6), which need what `stage` has.
- `verdicts`: lines of labelled traffic under the paper's filter; `report`: what came out, beside the paper;
  `markdown`: the same as text.
"""
