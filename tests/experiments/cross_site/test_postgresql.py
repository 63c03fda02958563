"""A team's set-up: MLflow's server over a real PostgreSQL, two sweeps' workers writing at once."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ppi_med.experiments import sweep_records as records
from ppi_med.experiments.cross_site import start
from ppi_med.experiments.selection import InSiteValidation
from ppi_med.experiments.sweep_tables import rebuild
from ppi_med.tracking.location import Location, locate
from tests.experiments.cross_site.tiny import request_for, text_of
from tests.tracking.stores import client_of
from tests.tracking.test_outage import free_port, serve, stop

pytestmark = pytest.mark.slow
DEBIAN = Path("/usr/lib/postgresql")


def programs() -> Path | None:
    """The folder of PostgreSQL's programs: on the path, or where Debian's package puts them."""
    found = [str(path) for path in sorted(DEBIAN.glob("*/bin"))]
    initdb = shutil.which("initdb", path=os.pathsep.join([os.environ["PATH"], *found]))
    return Path(initdb).resolve().parent if initdb else None


@pytest.fixture
def database() -> Iterator[str]:
    """The address of a PostgreSQL of its own, which listens to a socket in its own folder only."""
    pytest.importorskip("psycopg2", reason="PostgreSQL: psycopg2 is not installed")
    place = programs()
    if place is None:
        pytest.skip("PostgreSQL: Debian's package postgresql is not installed")
    user = None
    if os.getuid() == 0:  # it refuses to run as root
        try:
            user = pwd.getpwnam("postgres").pw_name
        except KeyError:
            pytest.skip("PostgreSQL: run as root without a user postgres")
    # A socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    if user is not None:
        shutil.chown(folder, user)

    def call(*words: str) -> None:
        done = subprocess.run(
            words, user=user, cwd=folder, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr

    data = str(folder / "data")
    options = f"-c listen_addresses='' -c fsync=off -k {folder}"
    try:
        call(str(place / "initdb"), "-D", data, "-U", "mlflow", "--auth=trust", "-E", "UTF8")
        log = str(folder / "log")
        call(str(place / "pg_ctl"), "-D", data, "-o", options, "-l", log, "-w", "start")
        try:
            call(str(place / "createdb"), "-h", str(folder), "-U", "mlflow", "mlflow")
            yield f"postgresql+psycopg2://mlflow@/mlflow?host={folder}"
        finally:
            call(str(place / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_sweep_on_postgresql(database: str, phantom: Path, swept: Path, tmp_path: Path) -> None:
    port = free_port()
    server = serve(Location(database, (tmp_path / "artifacts").as_uri()), port)
    address = f"http://127.0.0.1:{port}"
    try:
        result = start(request_for(phantom, tmp_path, tracking_uri=address, workers=2))
        assert result.failed == {} and text_of(tmp_path) == text_of(swept)
        client = client_of(Location(address, None))
        (sweep,) = records.find_sweeps(client)
        runs = records.children(client, sweep)
        assert {run.info.status for run in runs} == {"FINISHED"} and len(runs) == 4
        kept = {item.path for item in client.list_artifacts(sweep.run_id, "tables")}
        assert "tables/heat_map.png" in kept
    finally:
        stop(server)
    # The tables come from the database, also without the server.
    location = locate(tmp_path, database)
    (whole,) = [
        path
        for path in rebuild(location, tmp_path / "out", InSiteValidation())
        if path.name == "tables.md"
    ]
    assert whole.read_text() == text_of(swept)
