"""Run the example of docs/datasets.md: a shop's own tables, with strings as ids, prices, tags and likes only."""

import csv
import os
import random
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
import pytest

from orchestration.config.settings import PROJECT_ROOT

pytestmark = pytest.mark.docs

USERS, ITEMS = 300, 120
BRANDS, TAGS = ("Alder", "Birch", "Cedar"), ("garden", "kitchen", "gift", "sale", "new")


def write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def write_shop(folder: Path) -> None:
    """Write customers who prefer a brand and a tag; the last one has ordered all but three products."""
    rng = random.Random(1)
    products = [
        (f"SKU/{n:03d}", f"Product {n}", rng.choice(BRANDS), "|".join(rng.sample(TAGS, n % 4)), n * 1.5 if n else "")
        for n in range(ITEMS)
    ]
    write(folder / "data/products.csv", ["sku", "name", "brand", "tags", "price"], products)
    customers = [(f"C-{n:03d}", rng.choice(["DE", "FR"])) for n in range(USERS)]
    write(folder / "data/customers.csv", ["customer", "country"], customers)
    orders = []
    for customer, _ in customers:
        favorite, liked = rng.choice(BRANDS), rng.choice(TAGS)
        weights = [1 + 6 * (brand == favorite) + 4 * (liked in tags) for _, _, brand, tags, _ in products]
        own = rng.choices(products, weights, k=rng.randint(5, 40))
        own = products[3:] if customer == customers[-1][0] else own
        orders += [(customer, sku, f"2024-0{rng.randint(1, 6)}-15T10:00:00Z") for sku, *_ in own]
    for part in range(2):
        write(folder / f"data/orders/{part}.csv", ["customer", "sku", "ordered_at"], orders[part::2])


def test_a_shop_gets_recommendations(tmp_path: Path) -> None:
    page = (PROJECT_ROOT / "docs" / "datasets.md").read_text("utf-8")
    [example] = re.findall(r"```yaml\n(datasets:.*?)```", page, re.DOTALL)
    [command] = re.findall(r"^DATASETS_YAML=shop\.yaml (make run DATASET=shop)$", page, re.MULTILINE)
    (tmp_path / "shop.yaml").write_text(example, "utf-8")
    write_shop(tmp_path)
    variables = {"PIPELINE_HOME": str(tmp_path / "home"), "DATASETS_YAML": str(tmp_path / "shop.yaml")}
    done = subprocess.run(
        ["bash", "-ceu", command],
        cwd=PROJECT_ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "autoint is skipped: every row of the data set is a like" in done.stdout
    top = pd.read_parquet(tmp_path / "home" / "tables" / "shop" / "top10_autoint_catalogue.parquet")
    lengths = top.groupby("user_id").size()
    assert len(lengths) == USERS
    assert lengths[f"C-{USERS - 1:03d}"] == 3
    assert lengths.drop(f"C-{USERS - 1:03d}").eq(10).all()
    assert top["movie_id"].str.fullmatch(r"SKU/\d{3}").all()
    assert top["title"].str.startswith("Product ").all()
