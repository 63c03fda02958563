from __future__ import annotations

import json
import subprocess

import pytest

from ppi_med.tracking.location import locate
from ppi_med.tracking.provenance import git_commit, versions
from ppi_med.tracking.settings import (
    LONGEST,
    MOST,
    bundle_config,
    parameters,
    read_config,
    safe_name,
    shorten,
)


def test_parameters_are_what_differs_between_experiments():
    config = {
        "imports": ["$import torch"],
        "output_dir": "/home/a",
        "sites": ["Köln"],
        "device": "$torch.device('cpu')",
        "resume": True,
        "lr": 0.1,
        "image_size": [32, 40],
        "patience": None,
        "load": [{"_target_": "X"}],
        "network_def": {"_target_": "Net", "options": {"widths": [4, 8]}, "size": "@image_size"},
        "method_options": {"share": 0.2},
        "train": {"steps": 3},
    }
    tags = {"bundle": "ga", "method": "plain", "train_site": "Köln", "fold": None, "seed": 0}
    assert parameters(config, tags, {"note": "x"}) == {
        "note": "x",
        "method": "plain",
        "train_site": "Köln",
        "seed": 0,
        "method_options.share": 0.2,
        "network_def._target_": "Net",
        "network_def.options.widths": [4, 8],
        "lr": 0.1,
        "image_size": [32, 40],
    }


def test_of_many_parameters_the_first_stay():
    found = parameters({f"p{n}": n for n in range(100)}, {"method": "plain"})
    assert len(found) == MOST == 40 and list(found)[:2] == ["method", "p0"]


def test_long_values_are_cut_by_a_rule_that_keeps_them_apart():
    a, b = "x" * 5000 + "a", "x" * 5000 + "b"
    assert shorten(a) == shorten(a) != shorten(b)
    assert len(shorten(a)) < 300
    assert shorten("y" * LONGEST) == "y" * LONGEST


def test_names_that_mlflow_takes():
    assert safe_name("train::net::k/1.2 - a") == "train::net::k/1.2 - a"
    assert len(safe_name("n" * 400)) == 250


SITES = [
    *("北京", "上海", "Köln", "Kàln", "Москва", "القاهرة", "서울", "Ωmega"),
    # What MLflow refuses: marks of Devanagari and Thai, decomposed letters, signs, paths.
    *("दिल्ली", "दल्ली", "เชียงใหม่", "Ko\u0308ln", "a#b", "a$b", "a+b", "a&b", "a\tb", "a\nb", "a\n"),
    *("..", ".", "", "/", "a/../b", "a//b", "a/b/", "/a", "./a", "a/./b", "a/b"),
    *("n" * 400, "n" * 399 + "m", "名" * 300, "名" * 299 + "前", "😀", "😁", "a\x00b", "\ud800"),
]


@pytest.mark.parametrize("prefix", ["test/auc/", "sites.", ""])
def test_different_names_stay_different_and_mlflow_takes_them(prefix):
    from mlflow.utils.validation import _validate_metric_name, _validate_param, _validate_tag

    names = [safe_name(prefix + site) for site in SITES]
    assert len(set(names)) == len(SITES)
    for name in names:
        _validate_metric_name(name)
        _validate_param(name, "1")
        _validate_tag(name, "1")
        assert 0 < len(name) <= 250
    for site in SITES[:8]:
        assert safe_name(prefix + site) == prefix + site


def test_the_file_of_a_configuration(tmp_path):
    file = tmp_path / "c.json"
    file.write_text('{"lr": 0.1}')
    assert read_config(file) == {"lr": 0.1}
    assert read_config({"a": 1}) == {"a": 1}
    for text, words in (("[1]", "holds a list"), ("{", "is not JSON")):
        file.write_text(text)
        with pytest.raises(ValueError, match=f"c.json {words}"):
            read_config(file)


@pytest.mark.filterwarnings("ignore")
def test_a_running_bundle_is_found_with_what_it_resolved(tmp_path):
    from monai.bundle import run

    config = {
        "imports": ["$import json", "$from ppi_med.tracking.settings import bundle_config"],
        "lr": 0.1,
        "twice": "$@lr * 2",
        "sizes": "$[1, 2]",
        "net": {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": "@width"},
        "width": 3,
        "never": "$1 / 0",
        "out": str(tmp_path / "found.json"),
        "run": [
            "$@twice, @sizes, @net",
            "$open(@out, 'w').write(json.dumps(bundle_config()))",
        ],
    }
    file = tmp_path / "train.json"
    file.write_text(json.dumps(config))
    run(config_file=str(file), logging_file=False, lr=0.25)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["lr"] == 0.25
    assert found["twice"] == 0.5
    assert found["sizes"] == [1, 2]
    assert found["net"]["out_features"] == 3
    assert found["never"] == "$1 / 0"
    assert found["net"]["_target_"] == "torch.nn.Linear"


def test_outside_a_bundle_there_is_none():
    assert bundle_config() is None
    assert read_config(None) == {}


def test_where_runs_are_kept(tmp_path, monkeypatch):
    found = locate(tmp_path)
    assert found.uri == f"sqlite:///{tmp_path}/mlruns.db"
    assert found.artifacts == (tmp_path / "mlartifacts").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert locate(tmp_path).uri == "http://127.0.0.1:1"
    assert locate(tmp_path, "sqlite:////a/b.db").artifacts == "file:///a/mlartifacts"
    for folder in ("runs", "file:///runs", "nonsense://x"):
        with pytest.raises(ValueError, match="no longer keeps runs in plain folders"):
            locate(tmp_path, folder)


def test_versions_and_commit(tmp_path):
    assert set(versions()) >= {"python", "ppi_med", "torch", "monai", "mlflow"}
    assert git_commit(tmp_path) is None
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("1")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "x"], check=True)
    (tmp_path / "result").write_text("new files are no change of the code")
    clean = git_commit(tmp_path)
    assert len(clean) == 40
    (tmp_path / "file").write_text("2")
    assert git_commit(tmp_path) == f"{clean}-dirty"
