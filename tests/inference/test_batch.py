"""Many files through a stock evaluator: each is answered, none stops the others."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.engines import SupervisedEvaluator
from torch.utils.data import DataLoader

from ppi_med.data.oct.nifti import write_nifti
from ppi_med.data.oct.transforms import FitSlicesd, LoadOctVolumed, intensity_levels
from ppi_med.data.oct.volume import Spacing
from ppi_med.handlers import LoadWeights
from ppi_med.inference import (
    GaInferer,
    GaOutputs,
    OctFiles,
    find_inputs,
    infer_iteration,
    single_item,
    volumes,
)
from ppi_med.inference import outputs as writing
from ppi_med.inference.ga import standard_preprocessing
from ppi_med.networks.multiview import MultiViewClassifier
from ppi_med.saliency import WBP
from tests.inference.conftest import Writer, retina


def evaluator(
    network: MultiViewClassifier, inputs: Any, outputs: GaOutputs, **options: Any
) -> SupervisedEvaluator:
    data = OctFiles(find_inputs(inputs), standard_preprocessing((16, 24)), options)
    return SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(data, collate_fn=single_item),
        network=network,
        iteration_update=infer_iteration,
        inferer=GaInferer(WBP()),
        val_handlers=[outputs],
        decollate=False,
    )


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "predictions.csv").open(newline="") as stream:
        return {row["source"]: row for row in csv.DictReader(stream)}


@pytest.fixture
def mixed(tmp_path: Path, write_mat: Writer) -> Path:
    """Good files among bad ones, the bad ones first, between and last in order."""
    folder = tmp_path / "in"
    good = write_mat(folder / "b_good.mat", retina(4, 16, 24))
    content = good.read_bytes()
    (folder / "a_cut.mat").write_bytes(content[: len(content) // 2])
    (folder / "c_text.vol").write_text("this is no volume")
    write_mat(folder / "d_odd_count.mat", retina(99, 16, 24, seed=2))
    (folder / "e_empty").mkdir()
    (folder / "z_none.e2e").write_bytes(b"")
    return folder


def test_bad_files_are_named_and_the_others_go_on(
    tmp_path: Path, mixed: Path, network: MultiViewClassifier, caplog: pytest.LogCaptureFixture
) -> None:
    outputs = GaOutputs(tmp_path / "out")
    with caplog.at_level(logging.INFO, logger="ppi_med.inference"):
        evaluator(network, mixed, outputs).run()
    table = rows(tmp_path / "out")
    failed = {source for source, row in table.items() if row["status"] == "failed"}
    assert failed == {"a_cut.mat", "c_text.vol", "e_empty", "z_none.e2e"}
    assert all(table[source]["reason"] and not table[source]["volume_id"] for source in failed)
    assert table["d_odd_count.mat"]["n_slices"] == "99"
    for name in ("b_good", "d_odd_count"):
        written = {file.name for file in (tmp_path / "out" / name).iterdir()}
        assert written == {"result.json", "saliency.nii.gz", "report.html"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "b_good",
        "d_odd_count",
        "predictions.csv",
    }
    for source in failed:
        lines = [record for record in caplog.records if f"failed  {source}:" in record.message]
        assert [line.levelno for line in lines] == [logging.ERROR]
    assert outputs.verdict().startswith("4 files failed, 2 volumes done. First failure: a_cut.mat")
    assert len(outputs.failures) == 4


def test_no_result_replaces_another(
    tmp_path: Path, network: MultiViewClassifier, write_mat: Writer
) -> None:
    for number, name in enumerate(("a", "b")):
        write_mat(tmp_path / "in" / f"{name}.mat", retina(4, 16, 24, seed=number))
    engine = evaluator(network, tmp_path / "in", outputs := GaOutputs(tmp_path / "out"))
    engine.data_loader.dataset.names = ["same", "Same"]
    engine.run()
    assert [row.status for row in outputs.rows] == ["ok", "failed"]
    assert "would replace those of a.mat" in outputs.rows[1].reason
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == ["same"]


def test_all_good(tmp_path: Path, write_mat: Writer, network: MultiViewClassifier) -> None:
    path = write_mat(tmp_path / "a.mat", retina(3, 16, 24))
    outputs = GaOutputs(tmp_path / "out", report=False)
    engine = evaluator(network, path, outputs)
    engine.run()
    assert outputs.failures == []
    assert outputs.verdict() == "1 volume done."
    engine.run()  # a second run starts a table of its own
    assert len(outputs.rows) == 1


def test_nothing_to_read_is_a_failure(tmp_path: Path, network: MultiViewClassifier) -> None:
    outputs = GaOutputs(tmp_path / "out")
    (tmp_path / "in").mkdir()
    evaluator(network, [tmp_path / "in", tmp_path / "gone.mat"], outputs).run()
    assert [row.reason for row in outputs.rows] == [
        "no OCT file was found in this folder.",
        "no such file or folder.",
    ]


class Choosy(MultiViewClassifier):
    """Fails on a volume of four slices."""

    def explain(self, image: torch.Tensor, positions: torch.Tensor | None = None) -> Any:
        if image.shape[2] == 4:
            raise torch.OutOfMemoryError("not so many\nslices")
        return super().explain(image, positions)


def test_what_the_network_cannot_take_is_named(tmp_path: Path, write_mat: Writer) -> None:
    for slices in (3, 4, 5):
        write_mat(tmp_path / "in" / f"v{slices}.mat", retina(slices, 16, 24))
    outputs = GaOutputs(tmp_path / "out", report=False)
    evaluator(Choosy(), tmp_path / "in", outputs).run()
    table = rows(tmp_path / "out")
    assert [row["status"] for row in table.values()] == ["ok", "failed", "ok"]
    assert table["v4.mat"]["reason"] == "OutOfMemoryError: not so many slices"


class Faulty(MultiViewClassifier):
    def explain(self, image: torch.Tensor, positions: torch.Tensor | None = None) -> Any:
        raise TypeError("a fault of the program")


def test_a_fault_of_the_program_is_not_hidden(tmp_path: Path, write_mat: Writer) -> None:
    path = write_mat(tmp_path / "a.mat", retina(3, 16, 24))
    with pytest.raises(TypeError, match="a fault of the program"):
        evaluator(Faulty(), path, GaOutputs(tmp_path / "out")).run()
    assert rows(tmp_path / "out")["a.mat"]["reason"] == "TypeError: a fault of the program"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RecursionError("deep"),
        SystemExit(3),
        KeyError("x"),
        np.linalg.LinAlgError("no"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("where", ["read_source", "write_map"])
def test_no_file_takes_another_with_it(
    tmp_path: Path,
    write_mat: Writer,
    network: MultiViewClassifier,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    where: str,
) -> None:
    for name in "abc":
        write_mat(tmp_path / "in" / f"{name}.mat", retina(3, 16, 24, seed=ord(name)))
    module = {"read_source": volumes, "write_map": writing}[where]
    real, turns = getattr(module, where), iter((None, error, None))

    def sometimes(*args: Any) -> Any:
        if (now := next(turns)) is not None:
            raise now
        return real(*args)

    monkeypatch.setattr(module, where, sometimes)
    outputs = GaOutputs(tmp_path / "out", report=False)
    evaluator(network, tmp_path / "in", outputs).run()
    assert [row["status"] for row in rows(tmp_path / "out").values()] == ["ok", "failed", "ok"]


def test_an_output_that_cannot_be_written_is_named(
    tmp_path: Path, write_mat: Writer, network: MultiViewClassifier
) -> None:
    for name in ("a", "b"):
        write_mat(tmp_path / "in" / f"{name}.mat", retina(3, 16, 24))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("a file in the way")
    outputs = GaOutputs(tmp_path / "out", report=False)
    evaluator(network, tmp_path / "in", outputs).run()
    assert [row.status for row in outputs.rows] == ["failed", "ok"]
    assert "its outputs cannot be written" in outputs.rows[0].reason


def test_options_reach_the_readers(
    tmp_path: Path, write_mat: Writer, network: MultiViewClassifier
) -> None:
    path = write_mat(tmp_path / "a.mat", retina(3, 16, 24))
    data = OctFiles(
        find_inputs(path),
        standard_preprocessing((16, 24)),
        {"spacing": "0.01,0.004,?", "laterality": None, "axes": None},
    )
    assert data[0].volumes[0].volume.spacing == (0.01, 0.004, None)
    with pytest.raises(ValueError, match="expected OD or OS"):
        OctFiles([], standard_preprocessing(), {"laterality": "up"})


def test_volumes_are_never_stacked() -> None:
    with pytest.raises(ValueError, match="expected batch_size 1"):
        single_item([None, None])  # type: ignore[list-item]


@pytest.mark.parametrize("kind", ["outputs", "weights"])
def test_attached_once(tmp_path: Path, network: MultiViewClassifier, kind: str) -> None:
    engine = Engine(lambda engine, batch: None)
    handler = GaOutputs(tmp_path) if kind == "outputs" else LoadWeights(network, tmp_path)
    handler.attach(engine)
    with pytest.raises(RuntimeError, match="attached once"):
        handler.attach(engine)


def test_what_is_noted_is_true_of_the_fitted_volume(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    write_nifti(path, retina(3, 32, 48), Spacing(0.01, 0.004, 0.03))
    loaded = LoadOctVolumed("image")({"image": str(path)})["image"]
    fitted = FitSlicesd("image", (16, 24))({"image": loaded})["image"]
    assert (fitted.meta["background"], fitted.meta["bright"]) == intensity_levels(
        fitted.as_tensor()[0].numpy()
    )
    assert fitted.meta["spacing_mm"] == pytest.approx([0.03, 0.008, 0.02])
    # The first fitted pixel lies between the first two rows and columns.
    torch.testing.assert_close(
        fitted.affine @ torch.tensor([0.0, 0, 0, 1]).double(),
        torch.tensor([0.005, 0.002, 0, 1]).double(),
    )
    plain = FitSlicesd("image", (16, 24))({"image": loaded.as_tensor()})["image"]
    assert torch.equal(plain, fitted.as_tensor())
    with pytest.raises(ValueError, match=r"expected \(depth, width\)"):
        FitSlicesd("image", (16,))
