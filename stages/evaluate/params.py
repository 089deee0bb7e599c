"""The section `evaluate` of params.yaml."""

from typing import Annotated, ClassVar

from pydantic import Field

from stages.shared.params import Section
from stages.shared.tables import Corruption

Severities = Annotated[tuple[Annotated[int, Field(ge=0, le=255)], ...], Field(min_length=1)]


class Params(Section):
    """The section `evaluate` of params.yaml, which describes each parameter."""

    RENAMED: ClassVar[dict[str, str]] = {
        "changes": "corruptions",
        "changed_images": "corrupted_images",
    }

    calibration_bins: int = Field(ge=2, le=100)
    corruptions: dict[Corruption, Severities] = Field(min_length=1)
    corrupted_images: int = Field(ge=1)
    seed: int = Field(ge=0, lt=2**32)
