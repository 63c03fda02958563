"""Pack a bundle as a zip in the model zoo's layout: `configs/`, `models/`, `docs/`, `LICENSE`."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ppi_med.bundle_tools.installed import Bundle
from ppi_med.bundle_tools.phantom_weights import as_files
from ppi_med.errors import UsageError
from ppi_med.io import atomic_path

MODEL_SUFFIXES = (".pt", ".pth", ".ts", ".onnx")
_REQUIRED = ("metadata.json", "LICENSE", "docs/README.md")
# The same files give the same zip, byte for byte.
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")


@dataclass(frozen=True)
class Packed:
    """What was packed: the zip, its members in order, and whether the weights are a phantom's."""

    path: Path
    members: tuple[str, ...]
    of_phantom: bool = False


def pack_bundle(bundle: Bundle, output: Path | None = None, models: bool = True) -> Packed:
    """Write the bundle as a zip that the tools of MONAI's model zoo can open.

    Args:
        bundle: from `open_bundle`.
        output: the zip to write; `<name>_v<version>.zip` in the current folder by default.
        models: whether the weights in `models/` are packed too; without any, the bundle's weights
            of the phantom, see `phantom_weights`.

    Returns:
        The path written and its members.

    Raises:
        UsageError: if the metadata, licence or README is missing, the metadata has no version, or
            a file is a link that leads out of the bundle.
    """
    version = _version(bundle)
    members = _members(bundle, models)
    _refuse_incomplete(bundle, members)
    made: dict[str, bytes] = {}
    if models and "models/model.pt" not in members:
        made = as_files(bundle.root)
    target = output or Path(f"{bundle.name}_v{version}.zip")
    with (
        atomic_path(target) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in sorted({*members, *made}):
            info = zipfile.ZipInfo(f"{bundle.name}/{name}", _TIMESTAMP)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            source = io.BytesIO(made[name]) if name in made else members[name].open("rb")
            with source as content, archive.open(info, "w", force_zip64=True) as member:
                while chunk := content.read(1 << 20):
                    member.write(chunk)
    names = tuple(f"{bundle.name}/{name}" for name in sorted({*members, *made}))
    return Packed(target, names, bool(made))


def _members(bundle: Bundle, models: bool) -> dict[str, Path]:
    """Return the source of each member, sorted by the member's name."""
    root = bundle.root
    found: dict[str, Path] = {}
    for file in [*bundle.config_files(), bundle.config_folder / "logging.conf"]:
        found[f"configs/{file.name}"] = file
    for file in _below(root / "docs"):
        found[f"docs/{file.relative_to(root / 'docs').as_posix()}"] = file
    if models:
        for file in _below(root / "models"):
            # model.json describes model.pt, and inference reads it.
            described = file.suffix == ".json" and file.with_suffix(".pt").is_file()
            if file.suffix in MODEL_SUFFIXES or described:
                found[f"models/{file.relative_to(root / 'models').as_posix()}"] = file
    for name in ("LICENSE", "large_files.yml", "large_files.yaml"):
        found[name] = root / name
        found.pop(f"configs/{name}", None)
    for name, file in found.items():
        _refuse_unsafe(root, name, file)
    return {name: found[name] for name in sorted(found) if found[name].is_file()}


def _below(folder: Path) -> list[Path]:
    """Return the files below `folder`, without hidden ones and without following links."""
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(files)


def _refuse_unsafe(root: Path, name: str, file: Path) -> None:
    """Refuse names that could be unpacked outside the folder, and files from outside the bundle."""
    for part in PurePosixPath(name).parts:
        if not _PLAIN_NAME.fullmatch(part):
            raise UsageError(
                f"{file}: the name {part!r} is not safe in a zip, expected letters, digits and "
                "'._+-' after a letter or digit: rename it."
            )
    if not file.resolve().is_relative_to(root.resolve()):
        raise UsageError(f"{file} is a link out of the bundle: put a copy in its place.")


def _refuse_incomplete(bundle: Bundle, members: dict[str, Path]) -> None:
    for name in _REQUIRED:
        member = f"configs/{name}" if name == "metadata.json" else name
        if member not in members:
            raise UsageError(f"{bundle.root} has no {name}, which the model zoo asks for: add it.")


def _version(bundle: Bundle) -> str:
    """Return the version in the metadata, which becomes a part of a file's name."""
    try:
        metadata = json.loads(bundle.metadata.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{bundle.metadata} is missing: the model zoo asks for it.") from None
    except ValueError as error:
        raise UsageError(f"{bundle.metadata} is not valid JSON: {error}") from error
    version = metadata.get("version") if isinstance(metadata, dict) else None
    if not isinstance(version, str) or not _PLAIN_NAME.fullmatch(version):
        raise UsageError(
            f"{bundle.metadata}: the key version is {version!r}, expected a text such as '0.1.0'."
        )
    return version
