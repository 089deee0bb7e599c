"""The section `train` of params.yaml."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from stages.shared.params import Section

Count = Annotated[int, Field(ge=1, lt=2**31)]
Block = Annotated[tuple[Count, ...], Field(min_length=1)]


class Params(Section):
    """The section `train` of params.yaml, which describes each parameter."""

    RENAMED: ClassVar[dict[str, str]] = {
        "hardest": "hard_example_fraction",
        "hardest_per_error": "hard_examples_per_error",
        "keep": "export",
        "augmented": "augmented_fraction",
    }

    filters: tuple[Block, ...] = Field(min_length=1)
    kernel_sizes: tuple[Annotated[int, Field(ge=1)], ...]
    dense_units: tuple[Count, ...]
    dropout: float = Field(ge=0, lt=1)
    batch_normalisation: bool
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
        if self.batch_normalisation and self.hard_example_fraction < 1:
            raise ValueError(
                f"hard_example_fraction = {self.hard_example_fraction}: should be 1 with"
                " batch_normalisation, which takes the gradient of all images of a batch together"
            )
        if self.precision == "bfloat16" and self.instruction_set == "portable":
            raise ValueError(
                "precision = bfloat16: should go with instruction_set = native, since the portable "
                "instructions have no bfloat16"
            )
        return self
