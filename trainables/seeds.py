"""What a trial's seed decides: head initialisation, adapters, batch order and dropout, each from a seed of its own."""

from __future__ import annotations

import hashlib


def derived_seed(seed: int, purpose: str) -> int:
    """A seed for one purpose, from 0 to 2**63 - 1, so that drawing more for one never shifts another."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8], "big") >> 1
