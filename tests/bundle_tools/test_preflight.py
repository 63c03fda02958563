from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from ppi_med.bundle_tools import preflight
from ppi_med.bundle_tools.root import bundle_root, config_folder, running_parser
from ppi_med.errors import UsageError


@pytest.fixture(autouse=True)
def hook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except type(error) as caught:
        return caught


def printed(
    error: BaseException, capsys: pytest.CaptureFixture[str], status: int | None = None
) -> list[str]:
    """Return what the hook prints, and see the exit status that it asks for."""
    try:
        sys.excepthook(type(error), error, error.__traceback__)
        assert status is None
    except SystemExit as ended:
        assert ended.code == status
    return capsys.readouterr().err.splitlines()


def test_an_error_in_plain_words_is_the_only_line(capsys: pytest.CaptureFixture[str]) -> None:
    preflight.explain_errors("small")
    wrapped = raised(
        RuntimeError("Failed to evaluate"), raised(UsageError("fold is 7."), OSError())
    )
    assert printed(wrapped, capsys, status=2) == ["small: fold is 7."]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device", "out/a.pt"), "No space left on device: out/a.pt"),
        (PermissionError(13, "Permission denied", "runs"), "Permission denied: runs"),
        (MemoryError(), "there is not enough memory."),
        (sqlite3.DatabaseError("file is not a database"), "file is not a database"),
    ],
)
def test_what_the_machine_refuses_is_one_line(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    preflight.explain_errors("small")
    wrapped = raised(RuntimeError("Failed to evaluate"), raised(error))
    assert printed(wrapped, capsys, status=2) == [f"small: {line}"]


def test_any_other_error_has_its_traceback_first(capsys: pytest.CaptureFixture[str]) -> None:
    preflight.explain_errors("small")
    preflight.explain_errors("small")  # a second bundle in this process says it once
    wrapped = raised(RuntimeError("Failed to instantiate"), raised(ValueError("two\nlines")))
    lines = printed(wrapped, capsys)
    assert "RuntimeError: Failed to instantiate" in lines
    assert [line for line in lines if line.startswith("small")] == ["small: ValueError: two lines"]


def test_an_interruption_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    preflight.explain_errors("small")
    lines = printed(KeyboardInterrupt(), capsys, status=130)
    assert lines == ["small: stopped. A training goes on with --resume true."]


def run(folder: Path, **overrides: Any) -> None:
    from monai.bundle import ConfigWorkflow

    ConfigWorkflow(
        str(folder / "train.json"), logging_file=False, workflow_type=None, **overrides
    ).initialize()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    config = {
        "imports": ["$import ppi_med.bundle_tools.preflight as preflight"],
        "epochs": 3,
        "outer": {"inner": "$@epochs + @_meta_#n"},
        "initialize": [f"$preflight.refuse_unknown_keys({str(tmp_path)!r})"],
    }
    (tmp_path / "train.json").write_text(json.dumps(config))
    (tmp_path / "evaluate.json").write_text(json.dumps({"part": "test", "+extra#b": 1}))
    (tmp_path / "metadata.json").write_text('{"n": 1}')
    return tmp_path


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"epochs": 4, "outer#inner": 2},
        {"part": "of another configuration of the bundle"},
        {"mine": 3, "outer#inner": "@mine"},
        {"mine": {"a": 1}, "outer#inner": "$@mine#a + 1"},
    ],
)
def test_known_keys(small: Path, overrides: dict[str, Any]) -> None:
    run(small, **overrides)


@pytest.mark.parametrize("key", ["epoch", "Epochs", "epochs_"])
def test_an_unknown_key_names_the_nearest(small: Path, key: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        run(small, **{key: 4})
    cause = preflight.root_cause(caught.value)
    assert str(cause) == f"There is no key {key!r} in this bundle: did you mean epochs?"


def test_an_unknown_key_like_no_other(small: Path) -> None:
    with pytest.raises(RuntimeError) as caught:
        run(small, zzz=4)
    assert "docs/README.md" in str(preflight.root_cause(caught.value))


@pytest.mark.parametrize("text", ["false", "FALSE"])
def test_a_text_for_no_is_refused(small: Path, text: str) -> None:
    """MONAI's command line leaves 'false' a text, which counts as yes."""
    with pytest.raises(RuntimeError) as caught:
        run(small, epochs=text)
    cause = str(preflight.root_cause(caught.value))
    assert cause == f"epochs is the text {text!r}, which counts as yes: write False."
    run(small, epochs="true")


def test_images_of_another_size_than_the_trainings_are_refused() -> None:
    trained = {"image_size": [64, 80], "field_mm": 32.0}
    preflight.require_as_trained(trained, image_size=[64, 80], field_mm=32)
    preflight.require_as_trained(trained, image_size=None)  # each volume's own size
    preflight.require_as_trained({}, image_size=[1, 2])  # weights of before this was noted
    with pytest.raises(UsageError, match=r"image_size \[64, 80\], and \[256, 384\] is asked for"):
        preflight.require_as_trained(trained, image_size=(256, 384))
    with pytest.raises(UsageError, match=r"give --field_mm '32\.0'"):
        preflight.require_as_trained(trained, image_size=[64, 80], field_mm=64.0)


def test_where_nothing_is_running() -> None:
    preflight.refuse_unknown_keys("no/such/folder")
    assert running_parser() is None and config_folder() is None


def test_the_folder_of_what_is_running(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from monai.bundle import ConfigWorkflow

    monkeypatch.chdir(small.parent)
    asked = ["$__import__('ppi_med.bundle_tools.root').bundle_tools.root.bundle_root('x')"]
    workflow = ConfigWorkflow(
        str(small / "train.json"), logging_file=False, workflow_type=None, initialize=asked
    )
    assert workflow.initialize() == [small.name]
    assert bundle_root("x") == "."


def cases(*labels: int) -> list[dict[str, Any]]:
    return [{"label": label, "subject": f"s{n // 2}"} for n, label in enumerate(labels)]


def test_parts_in_order_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        preflight.require_parts({"training": cases(0, 1, 1), "test": cases(0, 1)}, batch_size=3)
    assert caplog.messages == [
        "training: 3 volumes of 2 subjects, 2 positive; test: 2 volumes of 1 subject, 1 positive"
    ]


@pytest.mark.parametrize(
    ("parts", "batch_size", "processes", "wanted"),
    [
        ({"test": cases(1, 1)}, 1, 1, "part test has 2 volumes, all of label 1"),
        ({"validation": []}, 1, 1, "part validation has 0 volumes, all of label none"),
        ({"training": cases(0, 1)}, 3, 1, "one batch of 3: give a smaller --batch_size"),
        ({"training": cases(0, 1)}, 2, 2, "one batch of 2 for each of 2 processes"),
    ],
)
def test_parts_that_cannot_be_worked_with(
    parts: Any, batch_size: int, processes: int, wanted: str
) -> None:
    with pytest.raises(UsageError, match=wanted):
        preflight.require_parts(parts, batch_size, processes)


@pytest.mark.parametrize("label", [2, -1, 0.5, float("nan"), "1", None, [1]])
def test_a_label_that_is_no_class(label: Any) -> None:
    parts = {"test": [*cases(0, 1), {"label": label, "volume_id": "v7"}]}
    with pytest.raises(UsageError, match=r"part test has the label .* \(v7\), expected a number"):
        preflight.require_parts(parts)


def test_labels_that_went_through_pandas() -> None:
    preflight.require_parts({"test": [{"label": 1.0}, {"label": False}]})


def test_held_out_parts_may_be_smaller_than_a_batch() -> None:
    preflight.require_parts({"test": cases(0, 1)}, batch_size=99)


@pytest.mark.parametrize("size", [None, [64, 80], (1, 2)])
def test_image_sizes(size: Any) -> None:
    preflight.require_image_size(size)


@pytest.mark.parametrize("size", [64, [64], "64,80", [64, 0], [64.0, 80], [1, 2, 3]])
def test_what_is_no_image_size(size: Any) -> None:
    with pytest.raises(UsageError, match="image_size is"):
        preflight.require_image_size(size)
