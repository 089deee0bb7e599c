"""Show the run: figures, and one page that holds them with the numbers and the parameters.

Reads:  the parameters, the learning curve, the versions and the promise, the metrics, what
        `evaluate` found out about every test image, the test images, the class names.
Writes: a PNG a figure, the page (HTML, self-contained).
"""

from pathlib import Path

from pydantic import Field

from stages.reporting import figures, inputs
from stages.reporting import mistakes as mistakes_figure
from stages.reporting.page import render
from stages.shared import artifacts, command
from stages.shared.params import Section, read


class Params(Section):
    """The section `report` of params.yaml, which says what each means."""

    dpi: int = Field(ge=50, le=400)
    mistakes: int = Field(ge=1, le=100)


def main(
    params: Params,
    *,
    parameters: Path,
    curve: Path,
    provenance: Path,
    train_metrics: Path,
    evaluate_metrics: Path,
    predictions: Path,
    probabilities: Path,
    per_class: Path,
    calibration: Path,
    test_images: Path,
    class_names: Path,
    learning_curves: Path,
    confusion_matrix: Path,
    mistakes: Path,
    recall: Path,
    reliability: Path,
    page: Path,
) -> None:
    """Read what the other stages wrote, draw, write."""
    names = inputs.document(class_names, list[str])
    labels = inputs.table(predictions, inputs.Prediction)
    scores, images = artifacts.read_array(probabilities), artifacts.read_array(test_images)
    inputs.check_sizes(labels, scores, images, len(names))
    epochs = inputs.table(curve, inputs.Epoch)
    classes = inputs.table(per_class, inputs.ClassScores)
    bins = inputs.table(calibration, inputs.Bin)
    headline = inputs.document(evaluate_metrics, inputs.Headline)
    training = inputs.document(train_metrics, inputs.Numbers)
    origin = inputs.document(provenance, inputs.Provenance)
    sections = read(parameters)

    confidence = scores.max(axis=1)
    shown = mistakes_figure.surest(**labels, confidence=confidence, limit=params.mistakes)
    with figures.style():
        drawn = {
            "learning_curves": figures.learning_curves(epochs),
            "confusion_matrix": figures.confusion_matrix(**labels, names=names),
            "mistakes": mistakes_figure.figure(shown, images, confidence, names),
            "recall": figures.recall(classes, names),
            "reliability": figures.reliability(bins, headline.calibration_error),
        }
        pictures = {name: figures.png(figure, params.dpi) for name, figure in drawn.items()}
    content = render(
        pictures,
        dpi=params.dpi,
        metrics={"evaluate": headline.model_dump(), "train": training},
        classes={"class": names} | {name: column.tolist() for name, column in classes.items()},
        parameters=sections,
        provenance=origin,
        mistakes_shown=sum(map(len, shown.values())),
    )

    artifacts.write_bytes(learning_curves, pictures["learning_curves"])
    artifacts.write_bytes(confusion_matrix, pictures["confusion_matrix"])
    artifacts.write_bytes(mistakes, pictures["mistakes"])
    artifacts.write_bytes(recall, pictures["recall"])
    artifacts.write_bytes(reliability, pictures["reliability"])
    artifacts.write_text(page, content)
    print(f"report: the whole run is on one page, {page}")


if __name__ == "__main__":
    command.run(main, Params)
