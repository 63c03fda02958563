"""The LIDC phantom: simulated CT around the real outlines of LIDC-IDRI's readers.

- ``sites``: four scanners, how their images look and the mark that each may burn in.
- ``chest``: a patient's lungs, vessels, ribs and soft tissue; ``nodules``: what fills the outlines;
  ``image``: both through a scanner.
- ``spec``: the parameters and the plan; ``writing``: a series as DICOM; ``lidc``: the whole.
"""
