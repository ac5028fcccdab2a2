"""What makes a member itself: a seed drawn from who it is."""

import hashlib

import torch


def member_seed(*identity: str | int) -> int:
    """A 63-bit seed from (task, role, forget set, seed, member, ...).

    The role is part of it, so originals and oracles never share a stream; shared seeds would push
    scores below the floor (measured).
    """
    digest = hashlib.sha256("\x1f".join(map(str, identity)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*identity: str | int) -> torch.Generator:
    """A CPU random stream seeded from an identity: the same on every device."""
    return torch.Generator().manual_seed(member_seed(*identity))
