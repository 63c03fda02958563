"""OCT volumes: one reader per vendor format, and the conversion of a folder to NIfTI.

The readers are reached through `ppi_med.data.oct.registry.read_oct`; the conversion is
`ppi_med.data.oct.convert.convert_folder`.
"""
