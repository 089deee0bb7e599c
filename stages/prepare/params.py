"""The section `prepare` of params.yaml."""

from typing import Annotated

from pydantic import Field, field_validator

from stages.prepare import sources
from stages.shared.params import Section

Text = Annotated[str, Field(min_length=1)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Extra(Section):
    """Additional training images: a source of two IDX files, and their digests."""

    source: Text
    images: Digest | None
    labels: Digest | None


class Params(Section):
    """The section `prepare` of params.yaml, which describes each parameter."""

    sources: Annotated[tuple[Text, ...], Field(min_length=1)]
    sha256: dict[str, Digest | None]
    extra: tuple[Extra, ...]
    class_names: Annotated[tuple[Text, ...], Field(min_length=2, max_length=256)]
    validation: Annotated[int, Field(ge=1)]
    limit: Annotated[int, Field(ge=1)] | None
    seed: Annotated[int, Field(ge=0, lt=2**32)]

    @field_validator("sha256")
    @classmethod
    def _names_the_four_files(cls, digests: dict[str, str | None]) -> dict[str, str | None]:
        if digests.keys() != sources.FILES.keys():
            raise ValueError(f"should have exactly the keys {', '.join(sources.FILES)}")
        return digests

    @field_validator("class_names")
    @classmethod
    def _differ(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("should name each class differently")
        return names
