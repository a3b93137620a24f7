"""How much an assertion costs on top of the one RSA signature that it needs.

``python -m tests.bench.sign_assertion [--rounds N]``. Building and signing an assertion of one role, claims included,
is compared with one raw RSA-2048 signature by the same key: that is 1.0. The two are interleaved, medians count; the
goal is 1.5 at most.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from broker.adapters.saml.assertion import SamlAssertionSigner
from broker.adapters.signing_keys import SigningKeyFolder
from broker.core.assertion import claims_for
from tests.core.examples import grant

_GOAL: Final = 1.5
# SignedInfo, which is what gets signed, has about this many bytes.
_SIGNED_BYTES: Final = 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000)
    rounds = parser.parse_args().rounds
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as folder:
        key = SigningKeyFolder(Path(folder) / "keys").create_first("benchmark", timedelta(days=1), 2048, now)
    signer, granted = SamlAssertionSigner(key), grant()
    data = bytes(_SIGNED_BYTES)
    ways: dict[str, Callable[[], object]] = {
        "raw RSA-2048 signature": lambda: key.sign(data),
        "assertion built and signed": lambda: signer.sign(claims_for(granted, "https://broker.example", now, now)),
    }
    rounds_taken = [tuple(_nanoseconds(act) for act in ways.values()) for _ in range(rounds)]
    raw, whole = (statistics.median(times) for times in zip(*rounds_taken, strict=True))
    for name, median in zip(ways, (raw, whole), strict=True):
        print(f"{name:<28} {median / 1000:7.0f} µs  {median / raw:5.2f}")
    print(f"goal {_GOAL}: {'met' if whole / raw <= _GOAL else 'missed'}")


def _nanoseconds(act: Callable[[], object]) -> int:
    start = time.perf_counter_ns()
    act()
    return time.perf_counter_ns() - start


if __name__ == "__main__":
    main()
