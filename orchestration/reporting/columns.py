"""Descriptions of the columns of stored tables, for the pages of the Dagster UI."""

_COMMON: dict[str, str] = {
    # tables built from the raw files
    "user_id": "User, as in the raw files.",
    "movie_id": "Movie, as in the raw files.",
    "gender": "F or M.",
    "age": "In MovieLens-1M the first year of the age group: 1 (under 18), 18, 25, 35, 45, 50 or 56; else in years.",
    "occupation": "In MovieLens-1M the number of the occupation, 0 to 20; else in words.",
    "zip": "Zip code as a string, since it can begin with zeros.",
    "title": "Title without the year.",
    "genres": "Genres joined by |.",
    "genre1": "First genre.",
    "genre2": 'Second genre; "no" without one.',
    "genre3": 'Third genre; "no" without one.',
    "movie_year": "Year of release, from the title; 0 without one.",
    "movie_decade": "Decade of release.",
    "rating": "Stars, at most 5.",
    "timestamp": "Seconds since 1970 (UTC).",
    "rating_year": "Year of the rating (UTC).",
    "rating_month": "Month of the rating (UTC), 1 to 12.",
    "rating_decade": "Decade of the rating.",
    "label": "1 for a rating of 4 or more, else 0.",
    "ingestion_batch": "Number of the batch that the row came with; 0 for the base files.",
    "first_ingestion_batch": "Batch of the user's first rating of the movie; 0 for the base files.",
    "row": "Position of the row in interactions.",
    # metrics
    "model": "Recipe or baseline.",
    "metric": "Name of the metric.",
    "value": "Value of the metric.",
}
_RAW = {"title": "Title with the year in parentheses.", "date": "Day in the name of the ingested file."}
_INDEX = "its index in the feature map, from 0."
_ENCODED = {
    "user_id": f"User: {_INDEX}",
    "movie_id": f"Movie: {_INDEX}",
    "gender": f"Gender: {_INDEX}",
    "age": f"Age group: {_INDEX}",
    "occupation": f"Occupation: {_INDEX}",
    "zip": f"Zip code: {_INDEX}",
    "genre1": f"First genre: {_INDEX}",
    "genre2": f"Second genre: {_INDEX}",
    "genre3": f"Third genre: {_INDEX}",
    "movie_year": f"Year of release: {_INDEX}",
    "movie_decade": f"Decade of release: {_INDEX}",
    "rating_year": f"Year of the rating: {_INDEX}",
    "rating_month": f"Month of the rating: {_INDEX}",
    "rating_decade": f"Decade of the rating: {_INDEX}",
}
_LISTS = {
    "user_id": f"User: {_INDEX}",
    "movie_id": f"Listed movie: {_INDEX}",
    "rank": "Rank in the user's list, from 1.",
    "model": "Baseline.",
}
_SCORES = {
    "score": "Predicted probability that the test row at this position is a like, 0 to 1; of a model trained on "
    "sampled negatives, only the order has a meaning."
}
_BASELINE_SCORES = {
    "random": "Score of a seeded random order.",
    "movie_mean": "Score of the movie mean: mean label of the movie's training rows.",
    "matrix_factorization": "Score of a matrix factorization with biases.",
    "ceiling": "Score of the perfect order: the label itself.",
}
_DRIFT = {
    "ingestion": "Number of the ingestion, 0 for the base files.",
    "measure": "Name of the measure.",
    "field": "Feature that was measured, or all.",
}
_OWN: dict[str, dict[str, str]] = {
    **dict.fromkeys(("raw_users", "raw_movies", "raw_ratings"), _RAW),
    **dict.fromkeys(("ingested_users", "ingested_movies", "ingested_ratings"), _RAW),
    **dict.fromkeys(("encoded_interactions", "train_interactions", "test_interactions"), _ENCODED),
    "baseline_scores": _BASELINE_SCORES,
    "data_drift": _DRIFT,
}
_OF_MODELS = {"_lists": _LISTS, "_scores": _SCORES}  # by the end of the asset's name


def meaning(asset: str, column: str) -> str | None:
    """The description of a column of an asset's table; None if it has none."""
    own = _OWN.get(asset) or next((own for end, own in _OF_MODELS.items() if asset.endswith(end)), {})
    return own.get(column) or _COMMON.get(column)
