"""The LIDC phantom: simulated CT around the real outlines of LIDC-IDRI's readers.

- `chest`: a patient's lungs, vessels, ribs and soft tissue, and what fills the outlines.
- `spec`: four scanners, the parameters and the plan; `writing`: a series through a scanner,
  as DICOM; `lidc`: the whole.
"""
