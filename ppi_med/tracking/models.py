"""A network in MLflow's own format, with a signature.

It is written to disk first and sent as a record, so that a server that is away costs nothing.

The format inside is a pickle of the module (`serialization_format="pickle"`): any network comes
back, for any batch size and number of slices, where `ppi_med` is installed. MLflow's default,
`pt2`, exports one traced graph: it needs no code, but is fixed to the sizes of its example, and
refuses networks whose forward depends on them. Both load by `mlflow.pyfunc.load_model`.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ppi_med import naming
from ppi_med.naming import distinct
from ppi_med.networks.torchvision_shim import ensure_torchvision
from ppi_med.tracking.environment import import_mlflow, quiet
from ppi_med.tracking.notes import NOTE
from ppi_med.tracking.outbox import Record
from ppi_med.tracking.provenance import versions
from ppi_med.training.modes import evaluating

Serialization = Literal["pickle", "pt2"]
_REQUIRED = ("ppi_med", "torch", "monai", "numpy")
_KEY = (naming.TAG_BUNDLE, naming.TAG_METHOD, naming.TAG_TRAIN_SITE)
_VERSION = (*_KEY, naming.TAG_FOLD, naming.TAG_SEED)
_STATUS = "status"
# Best of the epochs, whose weights are kept: what chooses, first to last.
_CHOOSES = (f"best/{naming.VAL_AUC}", f"best/{naming.VAL_ACCURACY}")
_SHOWN = (*_CHOOSES, naming.TEST_AUC, naming.TEST_ACCURACY)


def write_model(
    network: nn.Module,
    example: Tensor,
    folder: Path,
    *,
    serialization: Serialization = "pickle",
    free_axes: tuple[int, ...] = (0,),
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write the network to a folder in MLflow's format.

    Args:
        network: the network; it is written in evaluation mode from the CPU and restored.
        example: input `(N, C, *spatial)`; for "pt2" N >= 2, or the batch is fixed to 1.
        folder: output folder; an existing one is replaced.
        serialization: see the module.
        free_axes: axes of the input whose length the signature leaves open.
        metadata: kept in the model's description.

    Raises:
        ValueError: for "pt2" with a single sample as example.
    """
    if serialization == "pt2" and example.shape[0] < 2:
        raise ValueError(
            f"Got an example of batch {example.shape[0]}, expected 2 or more: pt2 would fix the "
            "batch size to 1."
        )
    import_mlflow()
    # If Lightning is installed MLflow imports it, and with it torchvision.
    ensure_torchvision()
    from mlflow import pytorch as mlflow_pytorch

    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    inputs = example.detach().as_subclass(Tensor).cpu()
    with evaluating(network):
        try:
            network.cpu()
            signature = _signature(network, inputs, free_axes)
            # It warns that a pickle runs code when loaded, as the docstring says.
            with warnings.catch_warnings(), quiet("mlflow.pytorch"):
                warnings.simplefilter("ignore")
                mlflow_pytorch.save_model(
                    network,
                    str(folder),
                    signature=signature,
                    input_example=inputs.numpy() if serialization == "pt2" else None,
                    pip_requirements=_requirements(),
                    metadata=dict(metadata or {}),
                    serialization_format=serialization,
                )
        finally:
            network.to(device)


def send_model(client: Any, run_id: str, record: Record) -> str:
    """Record a written model with a run, and register it if a name is given; return its URI."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    folder = Path(record["path"])
    experiment_id = client.get_run(run_id).info.experiment_id
    logged = client.create_logged_model(experiment_id, record["name"], source_run_id=run_id)
    description = Model.load(str(folder / "MLmodel"))
    description.run_id, description.model_id = run_id, logged.model_id
    description.model_uuid = logged.model_id
    description.artifact_path = logged.artifact_location
    description.save(str(folder / "MLmodel"))
    client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=record["step"])])
    if record["registered_name"]:
        _register(client, run_id, record["registered_name"], logged)
    shutil.rmtree(folder, ignore_errors=True)
    return f"models:/{logged.model_id}"


def _register(client: Any, run_id: str, name: str, logged: Any) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    client.create_model_version(
        name, source=logged.artifact_location, run_id=run_id, model_id=logged.model_id
    )


def describe_versions(client: Any, run_id: str) -> None:
    """Give the versions that a run has registered its tags, result and description.

    The best finished one of each bundle, method and training site gets the alias
    `best-BUNDLE-METHOD-SITE`: the best on validation cases; the test part never chooses.
    """
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        run = client.get_run(run_id)
        measured = {name: f"{run.data.metrics[name]:.4f}" for name in _SHOWN
                    if name in run.data.metrics}  # fmt: skip
        own = {name: run.data.tags[name] for name in _VERSION if name in run.data.tags}
        for name, text in {**own, **measured, _STATUS: run.info.status}.items():
            client.set_model_version_tag(version.name, version.version, name, text)
        client.update_model_version(version.name, version.version, run.data.tags.get(NOTE, ""))
        _mark_best(client, version.name, tuple(own.get(name) for name in _KEY))


def _mark_best(client: Any, name: str, key: tuple[str | None, ...]) -> None:
    rivals = [
        one
        for one in client.search_model_versions(f"name = '{name}'")
        if tuple(one.tags.get(tag) for tag in _KEY) == key and one.tags.get(_STATUS) == "FINISHED"
    ]
    for metric in _CHOOSES:
        values = {one.version: float(one.tags.get(metric, "nan")) for one in rivals}
        known = {version: value for version, value in values.items() if value == value}
        if known:
            # Of equals the first.
            best = max(sorted(known, key=int), key=known.__getitem__)
            words = "-".join(["best", *(part for part in key if part)])
            client.set_registered_model_alias(name, distinct(words, r"[^\w\-]", 250), best)
            return


def _signature(network: nn.Module, inputs: Tensor, free_axes: tuple[int, ...]) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    with torch.no_grad():
        output = network(inputs)
    array = inputs.numpy()
    shape = tuple(-1 if axis in free_axes else n for axis, n in enumerate(array.shape))
    logits = output.detach().as_subclass(Tensor).numpy()
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(array.dtype), shape)]),
        outputs=Schema([TensorSpec(np.dtype(logits.dtype), (-1, *logits.shape[1:]))]),
    )


def _requirements() -> list[str]:
    """Return the exact requirements for loading; a local build ("+cpu") is the same version."""
    found = versions()
    return [f"{name}=={found[name].split('+')[0]}" for name in _REQUIRED if name in found]
