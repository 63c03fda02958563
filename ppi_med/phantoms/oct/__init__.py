"""The OCT phantom: eyes with and without geographic atrophy, at up to four sites.

- `sites`: four scanners and the mark that each may burn in; `artefacts`: the marks.
- `grid`, `anatomy`, `lesions`: an eye; `render`: its volume through a scanner.
- `spec`: the parameters and the plan that follows; `write`: the files.
"""
