"""Assign users to the arms of an experiment."""

import hashlib

from app.service.config import Arm, Experiment
from ml.schema import Id

_BYTES = 8


def place_of(experiment: str, user_id: Id) -> float:
    """Map a user to a number in [0, 1), uniformly: the first 64 bits of SHA-256 of ``<name>:<user_id>``."""
    digest = hashlib.sha256(f"{experiment}:{user_id}".encode()).digest()
    return int.from_bytes(digest[:_BYTES], "big") / 2 ** (8 * _BYTES)


def arm_of(experiment: Experiment, user_id: Id) -> Arm:
    """Return the user's arm: the shares divide [0, 1) in order, and ``place_of`` selects the part."""
    place, end = place_of(experiment.name, user_id), 0.0
    for arm in experiment.arms:
        end += arm.share
        if place < end:
            return arm
    return experiment.arms[-1]  # rounding: shares may add up to slightly less than 1
