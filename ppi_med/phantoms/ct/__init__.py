"""The LIDC phantom: simulated CT around the real outlines of LIDC-IDRI's readers.

- `sites`: four scanners, how their images look and the mark that each may burn in.
- `chest`: a patient's lungs, vessels, ribs and soft tissue, and what fills the outlines.
- `spec`: the parameters and the plan; `writing`: a series through a scanner, as DICOM;
  `lidc`: the whole.
"""
