"""The tags of a materialization that Dagster gives it, by which it tells whether an asset is stale."""

CODE_VERSION, DATA_VERSION = "dagster/code_version", "dagster/data_version"
INPUT_VERSION = "dagster/input_data_version/"  # followed by the name of the asset that was read
