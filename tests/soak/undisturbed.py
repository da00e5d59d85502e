"""Provide a home in which nothing goes wrong."""

from tests.soak.home import NIGHT_SECONDS, Home


class Undisturbed(Home):
    """A home that ingests what arrives every night, so that batches have the same numbers as in the disturbed one."""

    def follow(self, is_complete: bool) -> None:
        """Ingest what has arrived and, if wanted, bring everything up to date."""
        if is_complete or not self.tables.exists():
            assert self.run() == 0, "the undisturbed run failed"
        else:
            self.ingest()

    def ingest(self) -> None:
        """Ingest what has arrived."""
        process = self.warmed().run([str(self.data)], self.log, f"{__name__}:ingest")
        assert process.wait(NIGHT_SECONDS) == 0, "the undisturbed home did not ingest"


def ingest(source: str) -> int:
    """Ingest what has arrived, in this process; gives the exit status."""
    import dagster as dg

    from orchestration.automation.jobs import PIPELINE
    from orchestration.config.data_sets import register
    from orchestration.definitions import build_definitions
    from orchestration.runtime.instance import use_instance

    use_instance()
    definitions = build_definitions(dg.in_process_executor)
    assets = definitions.resolve_asset_graph().assets_defs
    keys = next(asset.keys for asset in assets if asset.is_executable and asset.op.name == "ingest_batches")
    with dg.DagsterInstance.get() as instance:
        job = definitions.resolve_job_def(PIPELINE)
        done = job.execute_in_process(instance=instance, partition_key=register(source), asset_selection=[*keys])
    return 0 if done.success else 1
