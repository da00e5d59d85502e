"""Which version of a registered model an asset made: the value that the model assets hand on."""

from dataclasses import asdict, dataclass

BUNDLE_FILE = "bundle.zip"
BUNDLE_ARTIFACT = f"artifacts/{BUNDLE_FILE}"  # where MLflow keeps it inside a logged model
ROLLED_BACK = "rolled_back"  # tag of a version that a person went back from
EPOCH = "epoch"  # tag of a version: the epoch that its weights are from
LAST_BATCH = "last_batch"  # tag of a version: the highest batch number among the rows that it was trained on
WARM_START = "warm_start"  # tag of a version: from which other it went on, or why from none; begins the tags below
PARENT = f"{WARM_START}.parent"  # that other version's number; missing after a training from scratch
GENERATION = f"{WARM_START}.generation"  # warm starts since a training from scratch


@dataclass(frozen=True)
class RegisteredVersion:
    """A version in MLflow's registry.

    Attributes:
        model: the model's name in this project.
        registered_model: its name in the registry.
        version: the version's number, as MLflow gives it.
        run_id: the run that trained it.
        model_id: the logged model behind it.
    """

    model: str
    registered_model: str
    version: str
    run_id: str
    model_id: str

    @property
    def uri(self) -> str:
        """MLflow's address of the version."""
        return f"models:/{self.registered_model}/{self.version}"

    def to_dict(self) -> dict[str, str]:
        """A JSON-ready document, of which the constructor makes the same again."""
        return asdict(self)
