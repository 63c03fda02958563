"""Evaluation: measures of classifiers and of maps, intervals over subjects, figures.

- `metrics`, `roc`: AUC, sensitivity, calibration ... of labels and scores.
- `bootstrap`: the one interval by resampling subjects; `predictions`: what it is measured on.
- `faithfulness`, `localisation`, `sanity`: whether a map is right; `measures`: what they share, and
  from logits to one number per case.
- `figures`, `side_by_side`: pictures of all this.
"""

from __future__ import annotations

from ppi_med.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(("AUC", "BRIER", "CALIBRATION_ERROR", "Metric"), "metrics"),
        **dict.fromkeys(("brier", "calibration_error"), "metrics"),
        **dict.fromkeys(("accuracy_at", "sensitivity_at", "specificity_at"), "metrics"),
        **dict.fromkeys(("auc", "roc_curve", "sensitivity", "specificity"), "roc"),
        "youden_threshold": "roc",
        **dict.fromkeys(("Interval", "Part", "interval"), "bootstrap"),
        **dict.fromkeys(("of_mean", "of_metric"), "bootstrap"),
        "delong_test": "roc",
        "Predictions": "predictions",
        **dict.fromkeys(("deletion_curve", "insertion_curve"), "faithfulness"),
        **dict.fromkeys(("energy_inside", "pointing_game"), "localisation"),
        **dict.fromkeys(("model_randomisation", "rank_correlation"), "sanity"),
        **dict.fromkeys(("overlay_figure", "roc_figure", "save_figure"), "figures"),
        "side_by_side_figure": "side_by_side",
    },
)
