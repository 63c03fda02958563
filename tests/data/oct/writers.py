"""Small files in the vendors' formats, written from the formats' descriptions, not by our readers.

Every writer takes pixels `(n_bscans, depth, width)` and returns the path.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def volume(shape: tuple[int, int, int] = (5, 12, 9), seed: int = 0, high: int = 256) -> Any:
    """Random pixels without symmetry: a swapped or turned axis cannot go unseen."""
    dtype = np.uint8 if high <= 256 else np.uint16
    return np.random.default_rng(seed).integers(0, high, shape).astype(dtype)


def write_mat(path: Path, pixels: NDArray[Any], name: str = "images", **more: Any) -> Path:
    """MATLAB v5, Duke's order (depth, width, n)."""
    from scipy.io import savemat

    compress = more.pop("do_compression", False)
    variables = {name: pixels.transpose(1, 2, 0), **more}
    savemat(path, variables, do_compression=compress)
    return path


def write_mat73(path: Path, pixels: NDArray[Any], name: str = "images", **more: Any) -> Path:
    """MATLAB v7.3: HDF5 behind a block of 512 bytes; the axes stand in the opposite order."""
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset(name, data=pixels.transpose(0, 2, 1))  # (n, width, depth)
        for key, value in more.items():
            file.create_dataset(key, data=value)
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")
    return path


def write_pictures(
    folder: Path, pixels: NDArray[Any], names: Sequence[str] | None = None, suffix: str = ".tif"
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    names = names or [f"{number + 1}" for number in range(len(pixels))]
    for name, plane in zip(names, pixels, strict=True):
        Image.fromarray(plane).save(folder / f"{name}{suffix}")
    return folder


def write_multipage(path: Path, pixels: NDArray[Any]) -> Path:
    pages = [Image.fromarray(plane) for plane in pixels]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    return path


def _entry(name: str, value: bytes) -> bytes:
    key = name.encode()
    return struct.pack("<I", len(key)) + key + struct.pack("<I", len(value)) + value


def write_bioptigen(
    path: Path,
    pixels: NDArray[np.uint16],
    *,
    scan_type: int = 1,
    millimetres: tuple[float, float, float] = (9.0, 2.4, 10.0),
    doppler: bool = False,
    changes: dict[str, int] | None = None,
) -> Path:
    """`millimetres`: across, deep, along."""
    n, depth, width = pixels.shape
    numbers = {
        "FRAMECOUNT": n,
        "LINECOUNT": width,
        "LINELENGTH": depth,
        "SAMPLEFORMAT": 16,
        "SCANTYPE": scan_type,
        "SCANS": n,
        "FRAMES": 1,
        "DOPPLERFLAG": int(doppler),
    } | (changes or {})
    reals = dict(zip(("AZSCANLENGTH", "SCANDEPTH", "ELSCANLENGTH"), millimetres, strict=True))
    out = io.BytesIO()
    out.write(b"\x11\x22\x33\x44\x05\x01")
    out.write(struct.pack("<I", 11) + b"FRAMEHEADER" + struct.pack("<I", 0))
    for name, number in numbers.items():
        out.write(_entry(name, struct.pack("<I", number)))
    out.write(_entry("DESCRIPTION", b"phantom"))
    for name, real in reals.items():
        out.write(_entry(name, struct.pack("<d", real)))
    out.write(_entry("CONFIG", b"\1\2\3"))
    out.write(struct.pack("<I", 0))
    for plane in pixels:
        out.write(struct.pack("<I", 9) + b"FRAMEDATA" + struct.pack("<I", 0))
        out.write(_entry("FRAMEDATETIME", struct.pack("<8H", 2020, 1, 3, 1, 0, 0, 0, 0)))
        out.write(_entry("FRAMETIMESTAMP", struct.pack("<d", 0.5)))
        out.write(_entry("FRAMELINES", struct.pack("<I", width)))
        samples = np.ascontiguousarray(plane.T).astype("<u2").tobytes()
        out.write(_entry("FRAMESAMPLES", samples))
        if doppler:
            out.write(_entry("DOPPLERSAMPLES", samples[::-1]))
        out.write(struct.pack("<I", 0))
    path.write_bytes(out.getvalue())
    return path


def write_vol(
    path: Path,
    raw: NDArray[np.float32],
    *,
    pattern: int = 3,
    eye: bytes = b"OS",
    scales: tuple[float, float, float] = (0.0117, 0.0039, 0.06),
    starts: Sequence[float] | None = None,
    patient: bytes = b"P-7",
) -> Path:
    """HEYEX `.vol`; `scales` lateral, axial, between; `starts` the y of each B-scan in mm."""
    n, depth, width = raw.shape
    header_size = 256 + 3 * 4 * width
    head = bytearray(2048)
    struct.pack_into(
        "<12s3I3d", head, 0, b"HSF-OCT-103", width, n, depth, scales[0], scales[2], scales[1]
    )
    struct.pack_into("<2I2d", head, 48, 6, 7, 0.01, 0.01)
    struct.pack_into("<4s", head, 84, eye)
    struct.pack_into("<Q", head, 88, 12_600_000_000 * 10**7)
    struct.pack_into("<iI", head, 96, pattern, header_size)
    struct.pack_into("<24s", head, 140, patient)
    out = [bytes(head), bytes(6 * 7)]
    for number, plane in enumerate(raw):
        y = number * scales[2] if starts is None else starts[number]
        block = bytearray(header_size)
        struct.pack_into(
            "<12sI4d2I",
            block,
            0,
            b"HSF-BS-103",
            header_size,
            1.0,
            y,
            1.0 + scales[0] * width,
            y,
            3,
            256,
        )
        out += [bytes(block), plane.astype("<f4").tobytes()]
    path.write_bytes(b"".join(out))
    return path


def write_heyex_xml(
    folder: Path,
    pixels: NDArray[np.uint8],
    *,
    step: float = 0.06,
    urls: bool = False,
    eyes: Sequence[str] = (),
    kind: str = "Volume",
    names: str = "scans/{}-Input.tif",
    bumps: dict[int, float] | None = None,
    patient: str = "",
) -> Path:
    """An export; B-scan n lies at y = 5 - n step (+ `bumps[n]`), with a fundus picture as 0."""
    n, depth, width = pixels.shape
    (folder / names.format(1)).parent.mkdir(parents=True, exist_ok=True)
    images = [
        "<Image><ImageNumber>0</ImageNumber><OphthalmicAcquisitionContext><Width>30</Width>"
        "<Height>30</Height></OphthalmicAcquisitionContext></Image>"
    ]
    for number in range(1, n + 1):
        file = folder / names.format(number)
        Image.fromarray(pixels[number - 1]).save(file)
        y = 5 - step * number + (bumps or {}).get(number, 0.0)
        url = f"<ExamURL>file:///\\\\host\\share\\{file.name}</ExamURL>" if urls else ""
        eye = f"<Laterality>{eyes[(number - 1) % len(eyes)]}</Laterality>" if eyes else ""
        images.append(
            f"<Image><ImageNumber>{number}</ImageNumber>{eye}<OphthalmicAcquisitionContext>"
            f"<Width>{width}</Width><Height>{depth}</Height><ScaleX>0.0112</ScaleX>"
            f"<ScaleY>0.0039</ScaleY><Start><Coord><X>1.431</X><Y>{y:.3f}</Y></Coord></Start>"
            f"<End><Coord><X>7.157</X><Y>{y:.3f}</Y></Coord></End>"
            f"</OphthalmicAcquisitionContext><ImageData><Extension>TIF</Extension>{url}"
            "</ImageData></Image>"
        )
    who = f"<PatientID>{patient}</PatientID><LastName>Doe</LastName>" if patient else ""
    text = (
        f"<HEDX><BODY><ExportType>Data</ExportType><Patient>{who}<Study><Series><Type>{kind}</Type>"
        f"<NumImages>{n + 1}</NumImages>{''.join(images)}</Series></Study></Patient></BODY></HEDX>"
    )
    path = folder / "export.xml"
    path.write_text(text)
    return path


def _float16(value: float, reverse: bool) -> int:
    """The `.e2e` number without sign: 6 bits of exponent above 10 of mantissa."""
    exponent = int(np.floor(np.log2(value)))
    mantissa = int((value / 2.0**exponent - 1) * 1024)
    if reverse:
        mantissa = int(f"{mantissa:010b}"[::-1], 2)
    return (exponent + 63) << 10 | mantissa


def write_e2e(
    path: Path,
    raw: NDArray[np.float32],
    *,
    pattern: int = 3,
    eye: bytes | None = b"R",
    scale_y: float = 0.0039,
    series: int = 1,
    patterns: Sequence[int] | None = None,
    reverse: bool = False,
) -> Path:
    """HEYEX `.e2e` with `series` equal series of one patient."""
    n, depth, width = raw.shape
    folders: list[tuple[tuple[int, ...], int, bytes]] = []
    patient = (
        b"Jane".ljust(31, b"\0") + b"Doe".ljust(66, b"\0") + bytes(4) + b"F" + b"P-9".ljust(25)
    )
    folders.append(((1, -1, -1, -1), 9, patient.replace(b" ", b"\0")))
    for number in range(series):
        ids = (1, 1, 10 + number)
        kind = (patterns or [pattern] * series)[number]
        if eye is not None:
            folders.append(((*ids, -1), 11, bytes(14) + eye + bytes(12)))
        for index, plane in enumerate(raw):
            meta = bytearray(428)
            struct.pack_into("<3I", meta, 0, 0, depth, width)
            struct.pack_into("<f", meta, 36, scale_y)
            struct.pack_into("<4I", meta, 60, width, n, index, kind)
            folders.append(((*ids, 2 * index), 10004, bytes(meta)))
            codes = np.array([_float16(float(v), reverse) for v in plane.ravel()], "<u2").tobytes()
            head = struct.pack("<5I", len(codes), 35652097, depth * width, depth, width)
            folders.append(((*ids, 2 * index), 1073741824, head + codes))
    start = 36 + 52 + 52 + 44 * len(folders)
    table, data = b"", b""
    for ids, kind, body in folders:
        place = start + len(data)
        table += struct.pack("<4I4i2H2I", 0, place, len(body), 0, *ids, 0, 0, kind, 0)
        data += (
            struct.pack("<12s5I4i2H2I", b"MDbData", 0, 0, place, len(body), 0, *ids, 0, 0, kind, 0)
            + body
        )
    version = struct.pack("<12sI20s", b"CMDb", 100, b"")
    header = struct.pack("<12sI20s4I", b"MDbMDir", 100, b"", len(folders), 88, 0, 0)
    path.write_bytes(version + header + header + table + data)
    return path


def write_cirrus(path: Path, pixels: NDArray[np.uint8]) -> Path:
    """Bare pixels, rows from the choroid up, columns from the right."""
    path.write_bytes(np.ascontiguousarray(pixels[:, ::-1, ::-1]).tobytes())
    return path


def write_fda(
    path: Path,
    pixels: NDArray[Any],
    *,
    extent: tuple[float, float, float] = (6.0, 6.0, 2.6),
    raw: bool = False,
    eye: int = 1,
) -> Path:
    """Topcon `.fda`; `extent` mm across, mm along, micrometres a pixel in depth."""
    n, depth, width = pixels.shape
    if raw:
        body = b"\0" + struct.pack("<4I", width, depth, 16, n) + b"\0" + struct.pack("<I", 0)
        body += pixels.astype("<u2").tobytes()
        chunk = ("@IMG_MOT_COMP_03", body)
    else:
        body = b"\2" + bytes(8) + struct.pack("<4I", width, depth, n, 0xA02)
        for plane in pixels:
            picture = io.BytesIO()
            Image.fromarray(plane).save(picture, "JPEG2000", irreversible=False)
            body += struct.pack("<I", len(picture.getvalue())) + picture.getvalue()
        chunk = ("@IMG_JPEG", body)
    chunks = [
        ("@CAPTURE_INFO_02", bytes([eye, 2]) + bytes(116)),
        chunk,
        ("@PARAM_SCAN_04", bytes(12) + struct.pack("<3d", *extent) + bytes(30)),
    ]
    out = b"FOCTFDA" + struct.pack("<2I", 2, 1000)
    for name, data in chunks:
        out += bytes([len(name)]) + name.encode() + struct.pack("<I", len(data)) + data
    path.write_bytes(out + b"\0")
    return path


def write_dicom(
    path: Path,
    pixels: NDArray[Any],
    *,
    spacing: tuple[float, float] | None = (0.0039, 0.0112),
    step: float | None = 0.05,
    stated: float | None = None,
    eye: str | None = "L",
    places: Sequence[int] | None = None,
    bumps: dict[int, float] | None = None,
    sop_class: str = "1.2.840.10008.5.1.4.1.1.77.1.5.4",
    changes: dict[str, Any] | None = None,
) -> Path:
    """Ophthalmic tomography; `spacing` is DICOM's (rows, columns): depth first."""
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.sequence import Sequence as Items
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    def item(**values: Any) -> Dataset:
        dataset = Dataset()
        for name, value in values.items():
            setattr(dataset, name, value)
        return dataset

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    data.Modality, data.PatientID, data.PatientName = "OPT", "P-3", "Doe^Jane"
    n, data.Rows, data.Columns = pixels.shape
    data.NumberOfFrames = n
    bits = 8 * pixels.dtype.itemsize
    data.BitsAllocated = data.BitsStored = bits
    data.HighBit, data.PixelRepresentation, data.SamplesPerPixel = bits - 1, 0, 1
    data.PhotometricInterpretation = "MONOCHROME2"
    shared = Dataset()
    if eye is not None:
        data.ImageLaterality = eye
        shared.FrameAnatomySequence = Items([item(FrameLaterality=eye)])
    if spacing is not None:
        measures = item(PixelSpacing=list(spacing), SliceThickness=0.9)
        if stated is not None:
            measures.SpacingBetweenSlices = stated
        shared.PixelMeasuresSequence = Items([measures])
    shared.PlaneOrientationSequence = Items([item(ImageOrientationPatient=[1, 0, 0, 0, 0, 1])])
    data.SharedFunctionalGroupsSequence = Items([shared])
    frames = []
    for number in range(n):
        frame = item(
            FrameContentSequence=Items(
                [item(InStackPositionNumber=(places or range(1, n + 1))[number])]
            )
        )
        if step is not None:
            y = step * (places or range(1, n + 1))[number] + (bumps or {}).get(number, 0.0)
            frame.PlanePositionSequence = Items([item(ImagePositionPatient=[0, round(y, 6), 0])])
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = Items(frames)
    data.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    data["PixelData"].VR = "OB" if bits == 8 else "OW"
    for name, value in (changes or {}).items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path
