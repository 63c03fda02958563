"""Each layout is recognised and read; what is not as it should be is named."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ppi_med.data.photos.cub import read_cub
from ppi_med.data.photos.imagenet import read_boxes
from ppi_med.data.photos.layouts import find_layout, read_photos
from ppi_med.data.photos.photo import inside
from ppi_med.data.photos.pixels import archive, read_pixels
from ppi_med.errors import MissingFileError, UsageError
from tests.data.photos import made


def test_cub(tmp_path: Path) -> None:
    photos = read_photos(made.make_cub(tmp_path))
    assert [p.name for p in photos] == ["001.Auk/a", "001.Auk/b", "003.Tern/a", "003.Tern/c"]
    assert [p.label for p in photos] == [0, 0, 1, 1]
    assert [p.part for p in photos] == ["training", "test", "training", "test"]
    assert photos[0].boxes == ((2.0, 1.0, 7.0, 11.0),)  # y0, x0, y1, x1 of x, y, width, height
    assert photos[2].class_name == "003.Tern"
    assert np.array_equal(read_pixels(photos[3].image), made.picture(3))
    inner = read_photos(tmp_path / "CUB_200_2011")
    assert inner == photos


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("images.txt", "001.Auk/a.png", "../../secret.png", "inside"),
        ("train_test_split.txt", "9 0", "9 2", "line 2"),
        ("train_test_split.txt", "9 0\n", "", "Image 9"),
        ("bounding_boxes.txt", "9 0 0 30 20", "9 0 0 30", "line 2"),
        ("image_class_labels.txt", "9 1", "9 8", "class 8"),
    ],
)
def test_cub_lines_that_are_wrong(
    tmp_path: Path, file: str, old: str, new: str, words: str
) -> None:
    path = made.make_cub(tmp_path) / "CUB_200_2011" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(UsageError, match=words):
        read_cub(tmp_path)


def test_cub_without_its_split(tmp_path: Path) -> None:
    (made.make_cub(tmp_path) / "CUB_200_2011/train_test_split.txt").unlink()
    with pytest.raises(MissingFileError, match=r"train_test_split\.txt"):
        read_photos(tmp_path)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_cifar(tmp_path: Path, protocol: int) -> None:
    photos = read_photos(made.make_cifar(tmp_path, protocol))
    assert [p.part for p in photos] == ["training"] * 6 + ["test"] * 3
    assert [p.label for p in photos[:3]] == [1, 0, 1] and photos[0].class_name == "dog"
    data = np.random.default_rng(1).integers(0, 256, (3, 3072), dtype=np.uint8)
    assert np.array_equal(
        read_pixels(photos[4].image), data[1].reshape(3, 32, 32).transpose(1, 2, 0)
    )
    with pytest.raises(UsageError, match="no number 3"):
        read_pixels(photos[4].image[:-1] + "3")


@pytest.mark.parametrize("archives", [False, True])
def test_image_folders(tmp_path: Path, archives: bool) -> None:
    photos = read_photos(made.make_folders(tmp_path, archives))
    assert [(p.name, p.label) for p in photos] == [
        ("training/cat/1", 0),
        ("training/cat/2", 0),
        ("training/dog/1", 1),
        ("test/dog/9", 1),
    ]
    assert np.array_equal(read_pixels(photos[3].image), made.picture(0))


@pytest.mark.parametrize("archives", [False, True])
def test_what_macos_adds_is_no_class(tmp_path: Path, archives: bool) -> None:
    made.make_folders(tmp_path, archives)
    for name in ("__MACOSX/cat/._1.png", "__MACOSX/a.png", "cat/._2.png", ".trash/a.png"):
        if archives:
            with zipfile.ZipFile(tmp_path / "pets_train.zip", "a") as archive:
                archive.writestr(name, b"")
        else:
            made.write(tmp_path / "train" / name, b"")
    photos = read_photos(tmp_path)
    assert {photo.class_name for photo in photos} == {"cat", "dog"} and len(photos) == 4


def test_each_process_opens_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(made.make_folders(tmp_path, archives=True) / "pets_train.zip")
    first = archive(path)
    assert archive(path) is first
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert archive(path) is not first


def test_imagenet(tmp_path: Path) -> None:
    photos = read_photos(made.make_imagenet(tmp_path))
    assert [(p.label, p.class_name, p.part) for p in photos] == [
        (2, "n00000002", "test"),
        (5, "n00000005", "test"),
    ]
    # The annotation is of a picture twice as large.
    assert photos[0].boxes == ((2.0, 3.0, 20.0, 15.0),) and photos[1].boxes == ()


def test_imagenet_needs_all_classes_to_number_them(tmp_path: Path) -> None:
    (made.make_imagenet(tmp_path) / "LOC_synset_mapping.txt").unlink()
    with pytest.raises(MissingFileError, match="2 of 1,000 classes"):
        read_photos(tmp_path)


def test_imagenet_by_its_solution_file(tmp_path: Path) -> None:
    made.make_imagenet(tmp_path)
    for path in sorted((tmp_path / "val").glob("*/*")):
        path.rename(tmp_path / "val" / path.name)
    for folder in (tmp_path / "val").glob("n*"):
        folder.rmdir()
    (tmp_path / "LOC_val_solution.csv").write_text(
        "ImageId,PredictionString\nILSVRC2012_val_00000002,n00000009 1 2 3 4 \n"
        "ILSVRC2012_val_00000001,n00000000 1 2 3 4 \n"
    )
    assert [p.label for p in read_photos(tmp_path)] == [0, 9]


def test_an_entity_in_the_xml_is_refused(tmp_path: Path) -> None:
    evil = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>' + made.XML.replace(
        "60", "&x;"
    )
    image = made.write(tmp_path / "a.png", made.png(1))
    with pytest.raises(UsageError, match="EntitiesForbidden"):
        read_boxes(made.write(tmp_path / "a.xml", evil), str(image))


@pytest.mark.parametrize("size", ["0", "-60", "nan"])
def test_an_annotation_without_a_size(tmp_path: Path, size: str) -> None:
    image = made.write(tmp_path / "a.png", made.png(1))
    annotation = made.write(tmp_path / "a.xml", made.XML.replace("60", size))
    with pytest.raises(UsageError, match=rf"a\.xml is no annotation.*{size} x 40"):
        read_boxes(annotation, str(image))


def test_labels_csv(tmp_path: Path) -> None:
    first, second = read_photos(made.make_labels_csv(tmp_path))
    assert first.label == 7 and first.boxes == ((2.0, 1.0, 12.0, 11.0), (0.0, 20.0, 5.0, 30.0))
    assert second.boxes == () and second.class_name == "auk"


def test_labels_csv_with_paths_in_the_folder(tmp_path: Path) -> None:
    table = made.make_labels_csv(tmp_path) / "labels.csv"
    table.write_text(table.read_text().replace("b.png", "images/b.png"))
    _, second = read_photos(tmp_path)
    assert second.name == "b" and np.array_equal(read_pixels(second.image), made.picture(2))


def test_labels_csv_as_spreadsheets_write_it(tmp_path: Path) -> None:
    table = made.make_labels_csv(tmp_path) / "labels.csv"
    table.write_text("\ufeff" + table.read_text().replace("b.png,3,auk,,,,", "b.png,3"))
    _, second = read_photos(tmp_path)
    assert (second.label, second.class_name, second.boxes) == (3, "3", ())


@pytest.mark.data
def test_labels_csv_of_imagenet(data_root: Path) -> None:
    photos = read_photos(data_root / "imagenet_sample")
    assert len(photos) == len({p.label for p in photos}) == 120
    assert all(len(p.boxes) == 1 for p in photos)
    assert read_pixels(photos[-1].image).shape == (227, 227, 3)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a.png,8,tench,1,2,3,4", "two classes"),
        ("c.png,tench,,,,,", "line 5"),
        ("c.png", "line 5: too few cells"),
        ("../c,1,,,,,", "line 5"),
    ],
)
def test_labels_csv_lines_that_are_wrong(tmp_path: Path, line: str, words: str) -> None:
    path = made.make_labels_csv(tmp_path) / "labels.csv"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UsageError, match=words):
        read_photos(tmp_path)


def test_a_folder_of_no_layout(tmp_path: Path) -> None:
    made.write(tmp_path / "a.png", made.png(1))
    with pytest.raises(UsageError, match="no layout"):
        find_layout(tmp_path)
    with pytest.raises(MissingFileError, match="no folder"):
        find_layout(tmp_path / "nothing")
    with pytest.raises(UsageError, match="expected one of"):
        read_photos(tmp_path, "jpegs")


def test_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.png cannot be read as a picture"):
        read_pixels(str(made.write(tmp_path / "a.png", b"no picture")))
    with pytest.raises(UsageError, match=r"a\.zip is no whole zip"):
        read_pixels(f"{made.write(tmp_path / 'a.zip', b'no zip')}::a.png")
    with pytest.raises(MissingFileError, match=r"No file .*gone\.png"):
        read_pixels(str(tmp_path / "gone.png"))


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "a/../../b", "C:\\a", ""])
def test_paths_that_lead_out(name: str) -> None:
    with pytest.raises(UsageError, match="inside"):
        inside(name, "images.txt")


@pytest.mark.parametrize("ending", [".png", ".tif"])
@pytest.mark.parametrize(("top", "divisor"), [(65535, 256), (4095, 16), (255, 1), (0, 1)])
def test_sixteen_bits_become_eight(tmp_path: Path, ending: str, top: int, divisor: int) -> None:
    values = np.linspace(0, top, 48).astype(np.uint16).reshape(6, 8)
    Image.fromarray(values).save(tmp_path / f"a{ending}")
    found = read_pixels(str(tmp_path / f"a{ending}"))
    assert found.dtype == np.uint8 and np.array_equal(found, np.stack([values // divisor] * 3, 2))


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_values_that_no_picture_has_are_refused(tmp_path: Path, kind: type) -> None:
    Image.fromarray(np.array([[0, 70000]], kind)).save(tmp_path / "a.tif")
    with pytest.raises(UsageError, match=r"a\.tif has the values 0 to 70000 .* convert it"):
        read_pixels(str(tmp_path / "a.tif"))
