"""The long run: ``python -m tests.chaos --kills 200``."""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.adapters.database.postgresql import PostgresqlServer
from tests.chaos import campaign
from tests.chaos.broker_process import serving
from tests.chaos.full_disk import assert_outlived, database_on, filled, small_disk
from tests.flow.demo_process import Demo, running_demo


def main() -> None:
    """Kill on both engines, print what came of it; a violation ends it with an assertion."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="on each engine")
    parser.add_argument("--outages", type=int, default=5, help="of the database, at each of four moments")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    server = PostgresqlServer()
    try:
        server.start()
        with tempfile.TemporaryDirectory() as folder, running_demo(Path(folder) / "demo") as demo:
            for name, database, lost in (
                ("sqlite", f"sqlite:///{demo.folder}/chaos.db", None),
                ("postgresql", server.url(server.create_database()), server),
            ):
                began = time.monotonic()
                outcome = campaign.run(
                    demo,
                    database,
                    f"chaos-{name}",
                    kills=options.kills,
                    outages=options.outages,
                    seed=options.seed,
                    server=lost,
                )
                print(f"{name} {time.monotonic() - began:.0f} s: {json.dumps(asdict(outcome))}", flush=True)
            for name, place, used in (("sqlite", Path(folder), None), ("postgresql", server.folder, server)):
                with small_disk(place / "small-disk") as disk:
                    _fill(demo, name, disk, used)
                print(f"{name} on a full disk: an outage that ends by itself", flush=True)
    finally:
        server.remove()
    print("0 credentials without their intent, 0 received without their outcome, 0 grants with two outcomes")


def _fill(demo: Demo, name: str, disk: Path, server: PostgresqlServer | None) -> None:
    database = f"sqlite:///{disk}/broker.db" if server is None else server.url(database_on(server, disk))
    try:
        with serving(demo, demo.described["aws_endpoint"], database, f"full-{name}") as broker:
            assert_outlived(broker, demo, filled(disk))
    finally:
        if server is not None:
            server.stop()


if __name__ == "__main__":
    main()
