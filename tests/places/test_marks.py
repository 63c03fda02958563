from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ppi_med.errors import UsageError
from ppi_med.places import Account, Form, ImageStack, MovingMark, Neutral, Search, search
from ppi_med.places.marks import _Sought

R = torch.tensor(
    [[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1], [1, 0, 1, 0], [1, 0, 0, 1]], dtype=torch.float32
)


def images(
    count: int = 160, channels: int = 1, *, marked: float = 1.0, seed: int = 0
) -> tuple[ImageStack, ImageStack, Tensor]:
    """Draw noise with a letter somewhere in class 1; give training, validation, and where."""
    g = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % 2
    pixels = 0.6 * torch.rand(count, channels, 40, 48, generator=g)
    where = torch.stack(
        [torch.randint(0, 36, (count,), generator=g), torch.randint(0, 45, (count,), generator=g)],
        1,
    )
    agrees = torch.rand(count, generator=g) < marked
    for k in torch.nonzero((label == 1) == agrees)[:, 0].tolist():
        y, x = where[k].tolist()
        pixels[k, :, y : y + 5, x : x + 4] = R
    index = torch.arange(count)
    stack = ImageStack(pixels, label, index, torch.zeros_like(index))
    return stack.chosen(index < 110), stack.chosen(index >= 110), where


def finer(image: Tensor) -> Tensor:
    return torch.nn.functional.interpolate(image, scale_factor=2, mode="bilinear")


def drawn_mark() -> MovingMark:
    """Cut the letter out of the finer grid, 15 x 15; its border takes part of the background."""
    canvas = torch.full((1, 1, 21, 21), 0.3)
    canvas[0, 0, 8:13, 8:12] = R
    template = finer(canvas)[0, :, 13:28, 13:28]
    mask = torch.zeros(15, 15, dtype=torch.bool)
    mask[4:12, 4:10] = True
    form = Form(template, mask, 0.05, torch.tensor([[[0.5, 0.5]]]))
    return MovingMark((form,), 1, zoom=2.0, auc=0.9, constancy=1.0)


def best(mark: MovingMark, image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distance of the best match of the first form, its row and column."""
    pooled = torch.nn.functional.avg_pool2d(image, mark.pool)
    form = mark.forms[0]
    return _Sought(pooled, mark.zoom, len(form.mask) // 2).best(form.template, form.mask)


def test_the_best_match_is_that_of_a_slow_search() -> None:
    image = images(160)[0].image[:6]
    mark = drawn_mark()
    distance, at = best(mark, image)
    fine = finer(image)[:, 0].numpy().astype(float)
    padded = np.pad(fine, ((0, 0), (7, 7), (7, 7)), "edge")
    for k in range(6):
        least, where = np.inf, (0, 0)
        for y in range(80):
            for x in range(96):
                piece = padded[k, y : y + 15, x : x + 15]
                off = (piece - mark.forms[0].template[0].numpy())[mark.forms[0].mask.numpy()]
                if (far := float(np.sqrt(np.mean(off**2)))) < least:
                    least, where = far, (y, x)
        assert distance[k].item() == pytest.approx(least, abs=2e-3)
        assert tuple(at[k].tolist()) == where


@pytest.fixture(scope="module")
def found() -> Search:
    train, validation, _ = images()
    return search(train, validation)


def test_in_colour() -> None:
    train, validation, _ = images(channels=3)
    assert search(train, validation).kind == "mark"


def test_a_letter_that_lies_elsewhere_in_each_image_is_found(found: Search) -> None:
    validation = images()[1]
    assert (found.kind, found.shortcut, found.recommended_method) == ("mark", True, "neutral")
    (mark,) = found.marks
    assert mark.label == 1 and mark.j > 0.8 and len(mark.forms) == 1
    assert "images of class 1" in found.reason
    # What is left of the letter after it has been taken away tells the class no more.
    assert found.neutral is not None
    left = best(mark, found.neutral(validation.image))[0]
    assert left[validation.label == 1].median() > 2 * mark.forms[0].limit


def test_it_is_found_where_eight_of_ten_agree() -> None:
    train, validation, _ = images(500, marked=0.8)
    assert search(train, validation).kind == "mark"


@pytest.mark.slow
def test_a_letter_that_is_mirrored_in_some_images_has_two_forms() -> None:
    train, validation, where = images(320)
    image = torch.cat([train.image, validation.image])
    label = torch.arange(320) % 2
    for k in torch.nonzero(label == 1)[:, 0].tolist()[::3]:
        y, x = where[k].tolist()
        image[k, :, y : y + 5, x : x + 4] = R.flip(1)
    index = torch.arange(320)
    stack = ImageStack(image, label, index, 0 * index)
    found = search(stack.chosen(index < 220), stack.chosen(index >= 220))
    assert found.kind == "mark" and found.neutral is not None
    assert len(found.marks[0].forms) >= 2
    assert found.marks[0].held(image)[label == 1].double().mean() > 0.95
    assert not found.marks[0].held(image)[label == 0].any()


def test_a_bare_image_is_filled_in_all_places_of_another() -> None:
    """A ruler matches in many places of an image; so many are filled where there is none."""
    mark = drawn_mark()
    places = torch.tensor([[[0.25, 0.25], [0.25, 0.75], [-1, -1]]])
    mark = replace(mark, forms=(replace(mark.forms[0], places=places),))
    image = torch.rand(1, 1, 40, 48, generator=torch.Generator().manual_seed(4)) * 0.3
    changed = (mark.without(image) != image)[0, 0]
    assert changed[10, 12] and changed[10, 36] and not changed[30, 24] and not changed[10, 24]
    volume = image.expand(2, 1, 40, 48).transpose(0, 1)[None]
    assert torch.equal(mark.without(volume)[0, 0, 0], mark.without(image)[0, 0])


def test_a_mark_by_chance_is_none() -> None:
    train, validation, _ = images(marked=0.5, seed=1)
    found = search(train, validation)
    assert (found.kind, found.marks, found.shortcut) == ("none", (), False)


def test_similar_but_never_the_same_is_no_mark() -> None:
    """A round lesion: its size, brightness and place differ from patient to patient."""
    g = torch.Generator().manual_seed(3)
    train, validation, where = images(marked=0.5, seed=3)
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(48.0), indexing="ij")
    pixels = torch.cat([train.image, validation.image]) * 0.5
    label = torch.cat([train.label, validation.label])
    for k in torch.nonzero(label == 1)[:, 0].tolist():
        y, x = where[k].tolist()
        size, bright = (torch.rand(2, generator=g) * torch.tensor([3.0, 0.5])).tolist()
        blob = torch.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * (1.5 + size) ** 2))
        pixels[k, 0] += (0.5 + bright) * blob
    index = torch.arange(len(label))
    stack = ImageStack(pixels, label, index, 0 * index)
    found = search(stack.chosen(index < 110), stack.chosen(index >= 110))
    assert not found.marks


def test_the_filling_hides_the_mark_and_leaves_the_rest() -> None:
    train, _, where = images()
    train = train.chosen(torch.arange(110) < 20)
    mark = drawn_mark()
    out = mark.without(train.image)
    for k in torch.nonzero(train.label == 1)[:, 0].tolist():
        y, x = where[k].tolist()
        assert not torch.equal(out[k, 0, y : y + 5, x : x + 4], R)
        assert out[k, 0, y : y + 5, x : x + 4].max() < 0.95
    changed = (out != train.image).flatten(1).double().mean(1)
    # As much in images without the mark, where another image has it.
    assert changed.min() > 0 and changed.max() < 0.08
    assert torch.equal(out, mark.without(train.image))


def test_the_filling_does_not_depend_on_the_batch() -> None:
    train = images()[0].chosen(torch.arange(110) < 20)
    mark = drawn_mark()
    alone = torch.cat([mark.without(one[None]) for one in train.image])
    torch.testing.assert_close(alone, mark.without(train.image), rtol=0, atol=1e-6)


def test_gradients_pass_beside_the_filling() -> None:
    train = images()[0]
    image = train.image[:2].clone().requires_grad_()
    mark = drawn_mark()
    (slope,) = torch.autograd.grad(mark.without(image).sum(), image)
    assert slope.min() == 0 and slope.max() == 1 and slope.mean() > 0.9


def test_in_a_larger_image_the_mark_is_larger() -> None:
    train = images()[0].chosen(torch.arange(110) < 20)
    mark = drawn_mark()
    larger = torch.nn.functional.interpolate(train.image, scale_factor=3, mode="nearest")
    distance, label = best(mark.enlarged(3), larger)[0], train.label
    torch.testing.assert_close(distance, best(mark, train.image)[0], rtol=0, atol=1e-3)
    assert distance[label == 1].max() < distance[label == 0].min()


@pytest.mark.slow
def test_a_mark_between_the_pixels_is_found() -> None:
    """Images of another size: the letter's pixels are mixed anew in each of them."""
    train, validation, _ = images(300)

    def resized(stack: ImageStack) -> ImageStack:
        image = torch.nn.functional.interpolate(stack.image, (100, 120), mode="bilinear")
        return replace(stack, image=image)

    assert search(resized(train), resized(validation)).kind == "mark"


def test_facts_come_back(found: Search, tmp_path: Path) -> None:
    validation = images()[1]
    found.save(tmp_path / "places.npz")
    again = Search.load(tmp_path / "places.npz")
    assert again.marks[0].facts() == found.marks[0].facts()
    account = Account("mark", method="neutral", j_net=found.j_net, neutral=found.neutral)
    read = Account.of(json.loads(json.dumps(account.facts())))
    assert read is not None and read.neutral is not None
    assert torch.equal(read.neutral(validation.image), found.neutral(validation.image))  # type: ignore[misc]
    assert "marks filled" in read.sentence and "moves from image to image" in read.sentence


def test_files_of_before_have_no_marks(found: Search, tmp_path: Path) -> None:
    assert Neutral.of({"sigma": 1.0, "levels": None}).marks == ()
    found.save(tmp_path / "places.npz")
    with np.load(tmp_path / "places.npz") as file:
        arrays = {name: file[name] for name in file.files}
    content = json.loads(str(arrays["search"]))
    del content["marks"]
    arrays["search"] = np.array(json.dumps({**content, "format": 2, "kind": "none"}))
    np.savez(tmp_path / "old.npz", **arrays)
    assert Search.load(tmp_path / "old.npz").marks == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"forms": []},
        {"forms": [{}]},
        {"forms": 1},
        {"zoom": 0.0},
        {"pool": 0},
    ],
)
def test_garbled_facts_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="copy both files again"):
        MovingMark.of({**drawn_mark().facts(), **wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"mask": [[0, 0, 0]]},
        {"template": "x"},
        {"places": []},
        {"limit": None},
        {"template": [[[0.0] * 4] * 4], "mask": [[1] * 4] * 4},
    ],
)
def test_garbled_forms_are_refused(wrong: dict[str, object]) -> None:
    facts = drawn_mark().facts()
    (form,) = facts["forms"]
    with pytest.raises(UsageError, match="copy both files again"):
        MovingMark.of({**facts, "forms": [{**form, **wrong}]})
    # An earlier version had one form, whose values lay beside the mark's, and one place an image.
    before = {**facts, **form, "places": [[0.5, 0.5]]}
    del before["forms"]
    assert MovingMark.of(before).facts() == facts


@pytest.mark.slow
def test_a_mark_in_large_images_is_found() -> None:
    train, validation, _ = images()

    def doubled(stack: ImageStack) -> ImageStack:
        larger = torch.nn.functional.interpolate(stack.image, scale_factor=4, mode="nearest")
        return replace(stack, image=larger)

    found = search(doubled(train), doubled(validation))
    assert found.kind == "mark"
    assert found.neutral is not None
    assert found.neutral(doubled(validation).image).shape == (50, 1, 160, 192)
