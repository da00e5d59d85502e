"""Which users an experiment gives which model."""

import hashlib

from app.service.config import Arm, Experiment

_BYTES = 8


def place_of(experiment: str, user_id: int) -> float:
    """A user's place in an experiment, uniform in [0, 1): the first 64 bits of SHA-256 of ``<name>:<user_id>``."""
    digest = hashlib.sha256(f"{experiment}:{user_id}".encode()).digest()
    return int.from_bytes(digest[:_BYTES], "big") / 2 ** (8 * _BYTES)


def arm_of(experiment: Experiment, user_id: int) -> Arm:
    """The arm whose part of [0, 1), one after the other by their shares, holds the user's place."""
    place, end = place_of(experiment.name, user_id), 0.0
    for arm in experiment.arms:
        end += arm.share
        if place < end:
            return arm
    return experiment.arms[-1]  # shares may add up to a little less than 1
