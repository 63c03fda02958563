"""What pyproject.toml cannot say: the bundles' folder stands beside the package, not in it.

From a clone MONAI runs `bundles/ga_ppi/train.json`; a wheel carries the same files in
`ppi_med/bundles`, where `ppi-med copy` and `ppi-med demo` find them.
"""

from setuptools import find_namespace_packages, setup

setup(packages=[*find_namespace_packages(include=["ppi_med*"]), "ppi_med.bundles"])
