"""The section `prepare` of params.yaml."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from stages.shared.params import Section

Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Side = Annotated[int, Field(ge=1, le=4096)]


class Params(Section):
    """The section `prepare` of params.yaml, which describes each parameter."""

    REPLACED: ClassVar[dict[str, str]] = {
        "sources": "prepare.data: the folder or file of your data, or a JSON file like"
        " stages/prepare/mnist.json that has mirrors and digests",
        "sha256": "a JSON file like stages/prepare/mnist.json, named in prepare.data",
        "extra": "the folder stages/prepare/extra: put the files there",
    }

    data: Text
    class_names: Literal["auto"] | Annotated[tuple[Text, ...], Field(min_length=2, max_length=256)]
    label_column: Text
    channels: Literal["auto", 1, 3]
    image_size: Literal["auto"] | tuple[Side, Side]
    transposed: bool
    test: Count | Fraction
    validation: Count | Fraction
    limit: Literal["all"] | Count | Fraction
    seed: Annotated[int, Field(ge=0, lt=2**32)]

    @field_validator("class_names")
    @classmethod
    def _differ(cls, names: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("should name each class differently")
        return names
