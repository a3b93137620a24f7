"""How much building and signing an assertion costs on top of the signature itself.

``python -m tests.bench.sign_assertion [--rounds N]``. One raw RSA-2048 signature is 1.0, the physical limit; ways are
interleaved, medians count.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from broker.adapters.saml.assertion import SamlAssertionSigner
from broker.adapters.saml.metadata import build_metadata
from broker.adapters.signing_keys import SigningKeyFolder
from broker.core.assertion import claims_for
from broker.core.session_policy import policy_for
from tests.core.examples import grant

ISSUER = "https://broker.example.com/saml/metadata"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    rounds = parser.parse_args().rounds
    now = datetime.now(UTC)
    made = grant()
    claims = claims_for(made, ISSUER, now, now)
    with tempfile.TemporaryDirectory() as folder:
        key = SigningKeyFolder(Path(folder) / "keys").create_first("Bench", timedelta(days=1), 2048, now)
    signer = SamlAssertionSigner(key)
    signed_info = b"x" * 700  # as long as a SignedInfo
    ways: dict[str, Callable[[], object]] = {
        "one raw RSA-2048 signature": lambda: key.sign(signed_info),
        "assertion built and signed": lambda: signer.sign(claims),
        "claims of a grant": lambda: claims_for(made, ISSUER, now, now),
        "session policy compiled": lambda: policy_for(made),
        "metadata built and signed": lambda: build_metadata(ISSUER, ISSUER, key),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(took) for name, took in times.items()}
    raw = medians["one raw RSA-2048 signature"]
    for name, median in medians.items():
        print(f"{name:32} {median * 1e6:8.0f} µs {median / raw:6.2f}")


if __name__ == "__main__":
    main()
