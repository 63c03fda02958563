"""The OCT phantom: eyes with and without geographic atrophy, at up to four sites.

- `grid`, `anatomy`, `lesions`: an eye; `render`: its volume through a scanner.
- `artefacts`: the marks. `spec`: four scanners, the parameters and the plan that follows;
  `write`: the files.
"""
