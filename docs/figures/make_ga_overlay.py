"""Make docs/assets/ga_overlay.png: one phantom B-scan, explained for plain training and `auto`.

`python docs/figures/make_ga_overlay.py --work runs/ga_shortcut --data data/ga_shortcut`

The networks are those of `ppi-med shortcut --marks logo`, trained where the site's mark tells the
answer; what has not been run yet is run first. Of the five seeds the one in the middle (by the AUC
of `auto`) is shown. Both eyes have the mark: the one without GA is the test eye whose map, by the
plain network, lies on the mark most; the one with GA has the largest lesion.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

PICTURE = Path(__file__).resolve().parents[1] / "assets" / "ga_overlay.png"
SEED, MARK, AGREEMENT = 4, "logo", "1.0"
METHODS = {"plain training": "plain", "with auto": "auto"}


def main() -> None:
    """Run what is missing and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/ga_ppi"))
    parser.add_argument("--work", type=Path, default=Path("runs/ga_shortcut"))
    parser.add_argument("--data", type=Path, default=Path("data/ga_shortcut"))
    parser.add_argument("--output", type=Path, default=PICTURE)
    arguments = parser.parse_args()
    train_missing(arguments.bundle, arguments.work, arguments.data)
    items = with_the_mark(arguments.data / f"{MARK}-{AGREEMENT}")
    answers = {
        title: [explain(arguments.bundle, weights(arguments.work, method), item) for item in items]
        for title, method in METHODS.items()
    }
    draw(answers, items, arguments.output)


def weights(work: Path, method: str) -> Path:
    """Return the file of a method's weights."""
    return work / f"{MARK}-{AGREEMENT}-{method}-seed{SEED}" / "model.pt"


def train_missing(bundle: Path, work: Path, data: Path) -> None:
    """Train the two networks, where their weights are not there."""
    from ppi_med.experiments.records import FolderRecords
    from ppi_med.experiments.run import run_experiment
    from ppi_med.experiments.shortcut import Marks

    missing = tuple(m for m in METHODS.values() if not weights(work, m).is_file())
    if missing:
        plan = Marks(bundle, data, work, missing, (SEED,), (MARK,), (AGREEMENT,))
        failed = run_experiment(plan, FolderRecords(work / "records"))
        if failed:
            raise SystemExit("\n".join(failed.values()))


def with_the_mark(data: Path) -> list[dict[str, Any]]:
    """Return the test volumes that carry the site's mark."""
    from ppi_med.data.datalist import load_parts

    items = load_parts(data / "datalist.json", "test")
    return [item for item in items if int(item["artefact"]) == 1]


def explain(bundle: Path, file: Path, item: dict[str, Any]) -> Any:
    """Return a network's answer about a volume."""
    from monai.bundle import ConfigParser

    from ppi_med.handlers import load_weights
    from ppi_med.inference import infer_volume
    from ppi_med.saliency import WBP

    config = ConfigParser(ConfigParser.load_config_file(str(bundle / "train.json")))
    network = config.get_parsed_content("network_def")
    load_weights(network, file)
    return infer_volume(network, item["image"], WBP(), size=config["image_size"])


def draw(answers: dict[str, list[Any]], items: list[dict[str, Any]], output: Path) -> None:
    """Draw two eyes, each as it is and with both networks' maps."""
    from matplotlib.figure import Figure

    sick = [number for number, item in enumerate(items) if item["label"] == 1]
    healthy = [number for number, item in enumerate(items) if item["label"] == 0]
    plain = answers["plain training"]
    where = mark_of(items[0])
    without = max(healthy, key=lambda number: share(plain[number].saliency, where))
    lesions = {number: lesion(items[number]) for number in sick}
    with_ga = max(sick, key=lambda number: lesions[number].sum())
    rows = [
        ("without GA, with the scanner's mark", without, None),
        ("with GA, with the scanner's mark", with_ga, lesions[with_ga]),
    ]
    figure = Figure(figsize=(9.0, 5.3), layout="constrained")
    panels = figure.subplots(len(rows), 1 + len(answers))
    for row, (name, number, mask) in zip(panels, rows, strict=True):
        index = middle(mask, plain[number])
        for axes in row:
            axes.set_axis_off()
            axes.imshow(plain[number].volume.pixels[index], cmap="gray", aspect="auto")
        row[0].set_title(f"eye {name}", fontsize=9, loc="left")
        row[0].contour(where, levels=[0.5], colors="#ffd166", linewidths=0.9)
        if mask is not None:
            row[0].contour(mask[index], levels=[0.5], colors="#5ad1a5", linewidths=0.9)
        for axes, (title, found) in zip(row[1:], answers.items(), strict=True):
            axes.imshow(coloured(found[number].saliency[index]), aspect="auto")
            said = f"{title}: P(GA) = {found[number].probability:.2f}"
            axes.set_title(said, fontsize=9, loc="left")
    figure.suptitle(
        "OCT phantom (simulated, no patient). Red speaks for GA, blue against it. "
        "Outlined: the mark (yellow), the lesion (green).",
        fontsize=9,
        x=0.01,
        ha="left",
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110, facecolor="white", metadata={"Software": None})
    print(f"{output}: {output.stat().st_size // 1024} KiB")


def middle(mask: Any, answer: Any) -> int:
    """Return the B-scan with the largest lesion, or else with the greatest weight."""
    if mask is not None:
        return int(mask.sum(axis=(1, 2)).argmax())
    return int(answer.slice_weights.argmax())


def mark_of(item: dict[str, Any]) -> Any:
    """Return where the mark of a volume's site is on a B-scan."""
    import nibabel

    from ppi_med.phantoms.oct.artefacts import mark
    from ppi_med.phantoms.oct.spec import choose_sites

    (site,) = choose_sites([item["site"]])
    width, depth, _ = nibabel.load(item["image"]).shape
    return mark(site.artefact, depth, width)[0]


def lesion(item: dict[str, Any]) -> Any:
    """Return the lesion mask `(S, H, W)`; NIfTI has (lateral, depth, B-scan)."""
    import nibabel

    return np.asarray(nibabel.load(item["lesion"]).dataobj).transpose(2, 1, 0) > 0


def share(saliency: Any, where: Any) -> float:
    """Return the share of the relevance that lies on a place."""
    strength = np.abs(saliency)
    return float(strength[:, where].sum() / strength.sum())


def coloured(saliency: Any) -> Any:
    """Return a map `(H, W)` as RGBA: red for, blue against, the stronger the more opaque."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(saliency, 1.0)
    strength = np.clip(np.abs(smooth) / np.percentile(np.abs(smooth), 99.5), 0, 1)
    rgba = np.zeros((*smooth.shape, 4))
    rgba[..., :3] = np.where(smooth[..., None] >= 0, (1.0, 0.30, 0.18), (0.20, 0.62, 1.0))
    rgba[..., 3] = 0.85 * strength
    return rgba


if __name__ == "__main__":
    main()
