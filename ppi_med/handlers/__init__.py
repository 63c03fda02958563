"""Handlers for MONAI's trainers and evaluators, one per file.

They are imported on first use, so a bundle imports only the handlers that it names.
"""

from __future__ import annotations

from ppi_med.lazy import lazy_names

_WHERE = {
    "AUC": "metrics",
    "Accuracy": "metrics",
    "AttentionSchedule": "attention_schedule",
    "AverageBuffers": "average_buffers",
    "BestCheckpoint": "best_checkpoint",
    "ClassCases": "predictions",
    "ClassPictures": "pictures",
    "ClassSummary": "held_out_summary",
    "EarlyStop": "best_checkpoint",
    "EpochLines": "epoch_lines",
    "Familiarity": "familiarity",
    "LoadWeights": "checkpoint",
    "MapCurves": "map_curves",
    "PPIHandler": "ppi",
    "PPIStep": "step",
    "PatchAnswers": "patch_answers",
    "PicturesHandler": "pictures",
    "PlaceData": "places",
    "PlaceHandler": "places",
    "PredictionsHandler": "predictions",
    "PublishWeights": "publish_weights",
    "RecordModel": "record_model",
    "ResumeHandler": "resume",
    "TestSummary": "held_out_summary",
    "TrackingHandler": "tracking",
    "load_weights": "checkpoint",
}

__all__, __getattr__, __dir__ = lazy_names(__name__, _WHERE)
