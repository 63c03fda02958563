"""The sub-commands: help, wrong words, tables of an empty store."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ppi_med.cli import app, main
from ppi_med.errors import UnreachableError, UsageError
from ppi_med.experiments.cross_site import Request, make_plan
from ppi_med.experiments.plan import default_methods
from ppi_med.experiments.sweep import _insist
from ppi_med.tracking.location import locate
from tests.tracking.stores import new_store

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("command", ["cross-site", "cross-validate", "tables"])
def test_help(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0 and "MLflow" in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cross-site"], "Name a bundle's folder"),
        (["cross-site", "--preset", "moon"], "ga-phantom"),
        (["cross-site", "nowhere"], "nowhere/train.json"),
        (["cross-site", str(ROOT / "bundles/ga_ppi"), "--selection", "best"], "in-site"),
        (["cross-site", str(ROOT / "bundles/ga_ppi"), "--seeds", "x"], "whole numbers"),
        (["cross-site", str(ROOT / "bundles/ga_ppi"), "--set", "x"], "ID=VALUE"),
    ],
)
def test_wrong_words_are_answered_by_one_line(words: list[str], message: str) -> None:
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, UsageError) and message in str(result.exception)


@pytest.mark.parametrize(
    ("uri", "status", "message"),
    [
        ("./mlruns", 2, "no longer keeps runs in plain folders"),
        ("http://127.0.0.1:1", 1, "http://127.0.0.1:1 cannot be reached"),
    ],
)
def test_a_store_that_cannot_be_used_is_answered_by_one_line(
    uri: str,
    status: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("sys.argv", ["ppi-med", "tables", "--tracking-uri", uri])
    with pytest.raises(SystemExit) as ended:
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == status
    assert line.startswith("ppi-med: ") and message in line


def test_a_sweep_whose_store_stays_away_says_what_to_do() -> None:
    from mlflow.exceptions import MlflowException

    def away() -> None:
        raise MlflowException("API request failed")

    with pytest.raises(UnreachableError, match="start the sweep again"):
        _insist(away, patience=-1.0)


def test_tables_of_an_empty_store(tmp_path: Path) -> None:
    new_store(tmp_path)
    words = ["tables", "--tracking-uri", locate(tmp_path).uri, "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, UsageError) and "no finished run" in str(result.exception)


@pytest.mark.parametrize(
    ("files", "methods"),
    [
        (["ga_ppi/train.json"], ("plain", "auto")),
        (["lidc_ppi/train.json"], ("plain", "ppi_wbp_context")),
        (["cub_ppi/train.json", "cub_ppi/paper.json"], ("plain", "ppi_wbp_topk")),
        (["imagenet_wbp/evaluate.json"], ("plain",)),
    ],
)
def test_the_methods_are_plain_and_the_bundles_own(
    files: list[str], methods: tuple[str, ...]
) -> None:
    assert default_methods([ROOT / "bundles" / file for file in files]) == methods


def test_a_site_that_is_not_there(tmp_path: Path) -> None:
    from tests.bundles.tiny import make_phantom

    data = make_phantom(tmp_path / "data")
    request = Request(bundle=ROOT / "bundles/ga_ppi", dataset_dir=str(data))
    plan, facts = make_plan(request)
    assert plan.sites == ("site_a", "site_b") and len(plan.cells()) == 2 * 2 * 3
    assert plan.methods == ("plain", "auto")
    assert set(facts) == {"data_hash", "split_hash", "config"}
    with pytest.raises(UsageError, match="no site 'site_x'"):
        make_plan(Request(bundle=request.bundle, dataset_dir=str(data), sites=("site_x",)))
    # A data set for each training site.
    (tmp_path / "of").mkdir()
    for site in plan.sites:
        (tmp_path / "of" / site).symlink_to(data)
    for end in ("", "/"):
        own = Request(bundle=request.bundle, dataset_dir=f"{tmp_path}/of/{{train_site}}{end}")
        plan, facts = make_plan(own)
        assert plan.sites == ("site_a", "site_b") and set(facts) == {"site_a", "site_b", "config"}
