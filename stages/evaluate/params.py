"""The section `evaluate` of params.yaml."""

from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, Field, model_validator

from stages.shared.params import Section
from stages.shared.tables import Corruption

Dispute = Annotated[str, Field(pattern=r"^\d{1,9} \d{1,9} (\d{1,9}|\?)$")]
Severities = Annotated[tuple[Annotated[int, Field(ge=1, le=255)], ...], Field(min_length=1)]
# What became of the corruptions that were there before those of MNIST-C.
FORMER = {
    "shift": "was renamed to translate, and is diagonal",
    "rotation": "was renamed to rotate",
    "noise": "is gone; shot_noise and impulse_noise are like it",
    "blur": "is gone; glass_blur and motion_blur are like it",
}


def _refuse_former(name: str) -> str:
    """Return the name of a corruption; ValueError, which says what became of it, if it is gone."""
    if name in FORMER:
        raise ValueError(FORMER[name])
    return name


class Disputed(Section):
    """Test images whose label is disputed.

    Attributes:
        source: who says so.
        images: of each its index, its label, and what people called it instead, or a question
            mark; with spaces between.
    """

    source: str
    images: tuple[Dispute, ...]

    @property
    def labels(self) -> list[tuple[int, int, int | None]]:
        """Index, label and what people called it instead, of each image."""
        rows = [image.split() for image in self.images]
        return [(int(i), int(label), None if c == "?" else int(c)) for i, label, c in rows]

    @model_validator(mode="after")
    def _check(self) -> Self:
        indices = [index for index, _, _ in self.labels]
        if twice := [index for index in indices if indices.count(index) > 1]:
            raise ValueError(f"disputed.images has image {twice[0]} twice")
        return self


class Params(Section):
    """The section `evaluate` of params.yaml, which describes each parameter."""

    RENAMED: ClassVar[dict[str, str]] = {
        "changes": "corruptions",
        "changed_images": "corrupted_images",
    }

    calibration_bins: int = Field(ge=2, le=100)
    corruptions: dict[Annotated[Corruption, BeforeValidator(_refuse_former)], Severities] = Field(
        min_length=1
    )
    corrupted_images: int = Field(ge=1)
    disputed: Disputed
    seed: int = Field(ge=0, lt=2**32)
