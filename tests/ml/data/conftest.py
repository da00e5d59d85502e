from pathlib import Path

import pytest

from ml.data.ingestion import Ingestion
from ml.data.movielens import MOVIELENS_1M, MOVIELENS_CSV
from tests.ml.data.arriving import ingestion_in


@pytest.fixture
def ingestion(tmp_path: Path) -> Ingestion:
    return ingestion_in(tmp_path, MOVIELENS_1M)


@pytest.fixture
def csv_ingestion(tmp_path: Path) -> Ingestion:
    return ingestion_in(tmp_path, MOVIELENS_CSV)
