"""Settings of each architecture. Frozen; an unknown key is an error."""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, Field, PositiveInt, model_validator

from ml.features.next_item import HistoryNetworkConfig


class ArchitectureConfig(BaseModel, frozen=True, extra="forbid"):
    """Settings of any architecture."""


class AutoIntConfig(ArchitectureConfig):
    """AutoInt; the defaults are the reference's."""

    embed_dim: int = Field(default=16, ge=1, description="Width of a feature's embedding.")
    num_layers: int = Field(default=3, ge=1, description="Number of interacting layers.")
    num_heads: int = Field(default=2, ge=1, description="Attention heads per layer.")
    head_dim: int = Field(default=16, ge=1, description="Width of one head.")
    use_residual: bool = Field(default=True, description="Add the projected input to each interacting layer's output.")
    scaled: bool = Field(default=False, description="Divide attention scores by the square root of head_dim.")
    projection_relu: bool = Field(default=False, description="Apply a ReLU to queries, keys and values.")
    attention_dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout on the attention weights.")
    layer_norm: bool = Field(default=False, description="Layer normalization after each interacting layer's ReLU.")
    l2_embedding: float = Field(default=0.0, ge=0, description="L2 penalty on the embedding table.")
    embedding_dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout on the embeddings.")
    attention: Literal["softmax", "entmax"] = Field(
        default="softmax",
        description="How attention scores become weights: by softmax, or by 1.5-entmax, which makes many of them zero.",
    )
    local_layers: int = Field(
        default=0,
        ge=0,
        description="First interacting layers in which a feature attends only to those of its own side (user, movie, "
        "time of the rating); fewer than num_layers.",
    )

    @model_validator(mode="after")
    def _sides_meet(self) -> "AutoIntConfig":
        if self.local_layers >= self.num_layers:
            raise ValueError(
                f"local_layers is {self.local_layers}; expected fewer than num_layers, {self.num_layers}, so that "
                "features of different sides meet"
            )
        return self


class AutoIntMLPConfig(AutoIntConfig):
    """AutoInt with a parallel deep branch."""

    hidden_units: list[PositiveInt] = Field(
        default=[32, 32], min_length=1, description="Widths of the deep branch's hidden layers."
    )
    dropout: float = Field(default=0.4, ge=0, lt=1, description="Dropout after each hidden layer of the deep branch.")
    batch_normalization: bool = Field(default=False, description="Batch normalization before each hidden layer's ReLU.")
    l2_deep: float = Field(default=0.0, ge=0, description="L2 penalty on the deep branch's kernels.")
    deep_start: Literal["small", "glorot"] = Field(
        default="small",
        description="First kernels of the deep branch: normal with standard deviation 1e-4, as in the reference, or "
        "Glorot-uniform, with which the branch learns from the first epoch on.",
    )


class AutoIntMultitaskConfig(AutoIntConfig):
    """AutoInt that predicts the rating too, and can learn the order of a like and its sampled negatives."""

    rating_weight: float = Field(
        default=0.5, gt=0, description="Weight in the loss of the squared error of the standardized rating."
    )
    pairwise_weight: float = Field(
        default=0.0,
        ge=0,
        description="Weight in the loss of the pairwise ranking loss of each like and its sampled negatives.",
    )


class AutoIntCINConfig(AutoIntConfig):
    """AutoInt with a parallel compressed interaction network."""

    feature_maps: list[PositiveInt] = Field(
        default=[16, 16], min_length=1, description="Feature maps of each layer of the compressed interaction network."
    )
    l2_interaction: float = Field(
        default=0.0, ge=0, description="L2 penalty on the kernels of the compressed interaction network."
    )


class SASRecConfig(ArchitectureConfig, HistoryNetworkConfig):
    """SASRec, which learns from the order of each user's ratings."""


# The settings of an architecture by its name. ``ml.models.autoint`` has the builder of each of AutoInt's family,
# ``build_<name>``; ``ml.models.sequence`` has SASRec.
ARCHITECTURES: Mapping[str, type[ArchitectureConfig]] = {
    "autoint": AutoIntConfig,
    "autoint_mlp": AutoIntMLPConfig,
    "autoint_multitask": AutoIntMultitaskConfig,
    "autoint_cin": AutoIntCINConfig,
    "sasrec": SASRecConfig,
}
