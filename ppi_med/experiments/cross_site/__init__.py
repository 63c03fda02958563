"""Does a model hold at another site? A sweep of bundle runs, and tables made from MLflow alone.

- ``bundle``: what a sweep needs to know of a bundle; ``plan``: the cells of a sweep.
- ``cell``: one cell, an ordinary bundle run whose predictions are recorded with it.
- ``sweep``: the parent run; finished cells are kept, open ones closed and run again.
- ``records``: finished cells as read from MLflow; all below are pure functions of them.
- ``selection``: which of several settings counts, decided without the test site.
- ``matrix``, ``folds``: the numbers; ``table``, ``figures``: how they are shown.
"""
