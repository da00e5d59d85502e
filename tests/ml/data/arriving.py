"""Send files to an ingestion, and ingest them."""

import datetime as dt
from pathlib import Path

import pandas as pd

from ml.data.formats import Format
from ml.data.ingestion import Ingestion, Sorting
from ml.data.received import Known, Received

KNOWN = Known(pd.Series([1, 2]), pd.Series([10, 20]))
MARCH_1, MARCH_2 = 1_046_476_800, 1_046_563_200  # midnight UTC in 2003
RATED = "userId,movieId,rating,timestamp"


def ingestion_in(folder: Path, form: Format) -> Ingestion:
    """Return an ingestion at the end of April 2003."""
    return Ingestion(folder / "incoming", Received(folder / "received", form), lambda: dt.date(2003, 4, 30))


def send(ingestion: Ingestion, name: str, *lines: str) -> Path:
    """Put a file into the incoming directory, as its sender would."""
    ingestion.incoming.mkdir(parents=True, exist_ok=True)
    path = ingestion.incoming / name
    temporary = path.with_name(f".{name}.part")
    temporary.write_text("".join(f"{line}\n" for line in lines), "latin-1")
    return temporary.rename(path)


def take(ingestion: Ingestion) -> Sorting:
    """Run one ingestion."""
    ingestion.claim()
    sorting = ingestion.sort(KNOWN, claimed_only=True)
    ingestion.settle(sorting)
    return sorting


def rows(frame: pd.DataFrame) -> list[tuple[object, ...]]:
    """Return a table's rows as tuples."""
    return list(frame.itertuples(index=False, name=None))
