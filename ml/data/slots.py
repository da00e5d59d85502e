"""Turn a multi-valued feature into features of one value each: its first values, as the reference does with genres."""

import pandas as pd

SLOTS = 3
NO_VALUE = "no"  # in a slot of an item with fewer values


def slot_names(name: str) -> tuple[str, ...]:
    """Return the names of the slots, such as genre1, genre2 and genre3."""
    return tuple(f"{name}{slot + 1}" for slot in range(SLOTS))


def slots_of(name: str, values: pd.Series) -> dict[str, pd.Series]:
    """Return the slots of each item by name, str; ``values`` are joined by ``|``, and empty for an item without any."""
    found = values.replace("", NO_VALUE).str.split("|", expand=True).reindex(columns=range(SLOTS))
    return {own: found[slot].astype("str").fillna(NO_VALUE) for slot, own in enumerate(slot_names(name))}
