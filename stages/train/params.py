"""The section `train` of params.yaml."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from stages.shared.params import Section

NETWORKS = Path(__file__).parent / "networks"
Count = Annotated[int, Field(ge=1, lt=2**31)]
Block = Annotated[tuple[Count, ...], Field(min_length=1)]


def networks() -> list[str]:
    """Return the names of the networks to choose from, which are those of files."""
    return sorted(path.stem for path in NETWORKS.glob("[!_]*.py"))


class Params(Section):
    """The section `train` of params.yaml, which describes each parameter."""

    RENAMED: ClassVar[dict[str, str]] = {
        "hardest": "hard_example_fraction",
        "hardest_per_error": "hard_examples_per_error",
        "keep": "export",
        "augmented": "augmented_fraction",
    }
    REPLACED: ClassVar[dict[str, str]] = {
        "batch_normalisation": "train.network: residual, which always has it"
    }

    network: str
    filters: tuple[Block, ...]
    kernel_sizes: tuple[Annotated[int, Field(ge=1)], ...]
    dense_units: tuple[Count, ...]
    dropout: float = Field(ge=0, lt=1)
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    min_steps_per_epoch: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    warmup: float = Field(ge=0, le=1)
    beta_2: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    hard_example_fraction: float = Field(gt=0, le=1)
    hard_examples_per_error: float = Field(ge=0)
    export: Literal["last", "best"]
    patience: int = Field(ge=0)
    augmented_fraction: float = Field(ge=0, le=1)
    shift: float = Field(ge=0)
    rotation: float = Field(ge=0, le=180)
    zoom: float = Field(ge=0, lt=1)
    seed: int = Field(ge=0, lt=2**31)
    shards: Literal[1, 2, 4, 8, 16, 32, 64]
    precision: Literal["float32", "bfloat16"]
    instruction_set: Literal["portable", "native"]
    device: Literal["cpu", "gpu"]

    @field_validator("network")
    @classmethod
    def _is_there(cls, name: str) -> str:
        if name not in (known := networks()):
            raise ValueError(f"should be {' or '.join(known)}, a file in stages/train/networks")
        return name

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if len(self.kernel_sizes) != len(self.filters):
            raise ValueError(
                f"kernel_sizes = {[*self.kernel_sizes]}: should have as many numbers as filters "
                f"has blocks, {len(self.filters)}"
            )
        if self.batch_size % self.shards:
            raise ValueError(
                f"batch_size = {self.batch_size}: should be a multiple of shards = {self.shards}"
            )
        if self.precision == "bfloat16" and self.instruction_set == "portable":
            raise ValueError(
                "precision = bfloat16: should go with instruction_set = native, since the portable "
                "instructions have no bfloat16"
            )
        return self
