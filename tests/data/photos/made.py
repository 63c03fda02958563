"""Small data sets of photographs in each layout, written for the tests."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, rows: int = 20, columns: int = 30) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8)


def png(seed: int, **size: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture(seed, **size)).save(stream, format="PNG")
    return stream.getvalue()


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def make_cub(folder: Path) -> Path:
    root = folder / "CUB_200_2011"
    names = ["001.Auk/a.png", "001.Auk/b.png", "003.Tern/a.png", "003.Tern/c.png"]
    for number, name in enumerate(names):
        write(root / "images" / name, png(number))
    ids = [4, 9, 10, 12]  # as in a part of the original
    rows = list(zip(ids, names, strict=True))
    write(root / "images.txt", "".join(f"{i} {name}\n" for i, name in rows))
    write(root / "image_class_labels.txt", "".join(f"{i} {int(n[:3])}\n" for i, n in rows))
    write(root / "train_test_split.txt", "4 1\n9 0\n10 1\n12 0\n")
    write(root / "bounding_boxes.txt", "4 1.0 2.0 10.0 5.0\n9 0 0 30 20\n10 2 3 4 5\n12 5 5 5 5\n")
    write(root / "classes.txt", "1 001.Auk\n3 003.Tern\n")
    return folder


def make_cifar(folder: Path, protocol: int = 2) -> Path:
    root = folder / "cifar-10-batches-py"
    for index, name in enumerate(("data_batch_1", "data_batch_2", "test_batch")):
        rng = np.random.default_rng(index)
        batch = {
            b"batch_label": b"some batch",
            b"labels": [1, 0, 1],
            b"data": rng.integers(0, 256, (3, 3072), dtype=np.uint8),
            b"filenames": [b"a.png", b"b.png", b"c.png"],
        }
        write(root / name, pickle.dumps(batch, protocol=protocol))
    write(root / "batches.meta", pickle.dumps({b"label_names": [b"cat", b"dog"]}, protocol))
    return folder


def make_folders(folder: Path, archives: bool = False) -> Path:
    for part, names in {
        "train": ["dog/1.png", "cat/1.png", "cat/2.png"],
        "test": ["dog/9.png"],
    }.items():
        if archives:
            folder.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(folder / f"pets_{part}.zip", "w") as archive:
                for number, name in enumerate(names):
                    archive.writestr(name, png(number))
        else:
            for number, name in enumerate(names):
                write(folder / part / name, png(number))
    return folder


XML = """<annotation><size><width>60</width><height>40</height></size>
<object><name>n00000002</name><bndbox><xmin>6</xmin><ymin>4</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>
</object></annotation>"""


def make_imagenet(folder: Path) -> Path:
    write(folder / "val/n00000002/ILSVRC2012_val_00000001.JPEG", png(1))
    write(folder / "val/n00000005/ILSVRC2012_val_00000002.JPEG", png(2))
    lines = [f"n{i:08d} thing {i}" for i in range(10)]
    write(folder / "LOC_synset_mapping.txt", "\n".join(lines))
    write(folder / "bbox/val/ILSVRC2012_val_00000001.xml", XML)
    return folder


def make_labels_csv(folder: Path) -> Path:
    write(folder / "images/a.png", png(1))
    write(folder / "images/b.png", png(2))
    write(
        folder / "labels.csv",
        "file,class_index,class_name,x0,y0,x1,y1\na.png,7,tench,1,2,11,12\na.png,7,tench,20,0,30,5\n"
        "b.png,3,auk,,,,\n",
    )
    return folder
