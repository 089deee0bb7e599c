"""Render the results of a run as one page and as figures.

Reads:  the parameters, the learning curve, the provenance, what `evaluate` wrote, the test images,
        the labels of the other splits, the class names, the model.
Writes: the page (HTML, self-contained), five figures (PNG).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from markupsafe import Markup

from stages.report import (
    card,
    confusion,
    drawing,
    figures,
    fonts,
    gallery,
    inputs,
    mosaic,
    page,
)
from stages.report import robustness as robust
from stages.report.drawing import Drawing
from stages.report.inputs import Predictions
from stages.report.params import Params
from stages.shared import artifacts, command, network, novelty, tables
from stages.shared.errors import StageError
from stages.shared.network import Layer
from stages.shared.params import read
from stages.shared.tables import Table


def sha256(path: Path) -> str:
    """Return the SHA-256 of the file at `path`, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def galleries(
    params: Params, predictions: Predictions, disputed: tables.Disputed
) -> dict[str, list[gallery.Example]]:
    """Return the examples that each of the page's galleries shows, by the gallery's name."""
    is_error = predictions.is_error
    most_confident = predictions.most_confident_by_class(~is_error, params.examples)
    is_left = ~is_error & ~np.isin(np.arange(len(is_error)), most_confident)
    chosen = {
        "mistakes": predictions.most_confident(is_error, params.mistakes),
        "most_confident": most_confident,
        "least_confident": predictions.least_confident(is_left, params.examples),
    }
    return {
        name: gallery.examples(predictions, indices, disputed) for name, indices in chosen.items()
    }


def drawing_part(
    layers: Sequence[Layer], predictions: Predictions, familiar: novelty.Novelty | None
) -> Drawing:
    """Return the part that draws; it begins with the first image that is predicted correctly."""
    correct = np.flatnonzero(~predictions.is_error)
    example = predictions.images[correct[0]] if len(correct) else None
    return drawing.part(layers, predictions.names, example, familiar)


def draw(
    params: Params, plotted: Mapping[str, Table], counts: np.ndarray, predictions: Predictions
) -> tuple[dict[str, Markup], dict[str, bytes]]:
    """Return the page's figures as SVG, and the figures that are files as PNG, by name.

    Args:
        params: how many mistakes to show, and the resolution.
        plotted: the table of each of the page's figures, by the figure's name.
        counts: (classes, classes), the confusion matrix.
        predictions: of which the mistakes are shown.
    """
    families, names = fonts.cover(predictions.names)
    predictions = replace(predictions, names=names)
    cells = mosaic.cells(predictions, params.mistakes, params.mistakes_in_cell)
    with figures.style(families):
        drawn = figures.drawn(
            {**plotted, "classes": {**plotted["classes"], "class": np.array(names)}}
        )
        drawings = {
            name: figures.svg(name, figure, figures.DESCRIPTIONS[name])
            for name, figure in drawn.items()
        } | {"robustness": robust.panels(plotted["robustness"])}
        files = {name: drawn[name] for name in ("learning_curves", "classes", "reliability")} | {
            "confusion_matrix": confusion.matrix(counts, predictions.names),
            "mistakes": mosaic.draw(cells, predictions),
        }
        return drawings, {name: figures.png(file, params.dpi) for name, file in files.items()}


def main(
    params: Params,
    *,
    parameters: Path,
    curve: Path,
    provenance: Path,
    evaluate_metrics: Path,
    predictions: Path,
    probabilities: Path,
    per_class: Path,
    calibration: Path,
    robustness: Path,
    disputed: Path,
    prototypes: Path,
    thresholds: Path,
    model: Path,
    train_labels: Path,
    validation_labels: Path,
    test_images: Path,
    class_names: Path,
    report: Path,
    learning_curves: Path,
    confusion_matrix: Path,
    mistakes: Path,
    recall: Path,
    reliability: Path,
) -> None:
    """Read the results of the other stages, and write the page and the figures."""
    names = tables.read_json(class_names, list[str])
    scored = Predictions(
        **tables.read(predictions, tables.Prediction),
        images=artifacts.read_array(test_images),
        probabilities=artifacts.read_array(probabilities),
        names=names,
    )
    plotted = {
        "learning_curves": tables.read(curve, inputs.Epoch),
        "classes": tables.read(per_class, tables.ClassScores),
        "reliability": tables.read(calibration, tables.ReliabilityBin),
        "robustness": tables.read(robustness, tables.CorruptionAccuracy),
    }
    if plotted["classes"]["class"].tolist() != names:
        raise StageError(f"{per_class} has other classes than {class_names}")
    metrics = tables.read_json(evaluate_metrics, tables.Metrics)
    disputes = tables.read_json(disputed, tables.Disputed)
    origin = tables.read_json(provenance, inputs.Provenance)
    layers = network.read(model)
    sections = read(parameters)
    recipe = inputs.recipe(sections)
    splits = inputs.split_counts([train_labels, validation_labels], scored)

    counts = confusion.count(scored.actual, scored.predicted, len(names))
    examples = galleries(params, scored, disputes)
    shown = {example.number for chosen in examples.values() for example in chosen}
    drawings, pictures = draw(params, plotted, counts, scored)
    content = page.render(
        "page.html",
        names=names,
        count=len(scored.images),
        metrics=metrics,
        provenance=origin,
        drawing=drawing_part(layers, scored, novelty.read(prototypes, thresholds)),
        card=card.card(recipe, model, splits.sum(axis=0).tolist(), scored.images.shape[1:]),
        summary=gallery.summary(scored, splits, shown),
        weakest=card.weakest(plotted["classes"]),
        worst=card.worst(plotted["robustness"]),
        figures=drawings,
        **examples,
        disputes=page.disputes(disputes, scored),
        counts=counts.tolist(),
        percentages=(100 * confusion.shares(counts)).tolist(),
        tints=confusion.error_tints(counts).tolist(),
        share_tints=confusion.error_tints(confusion.shares(counts)).tolist(),
        confused=confusion.most_confused(counts, names),
        classes=page.classes(plotted["classes"]),
        filters=gallery.filters(layers, scored.images[0]),
        epochs=len(plotted["learning_curves"]["epoch"]),
        corruptions=robust.rows(plotted["robustness"]),
        corrupted_images=int(plotted["robustness"]["count"][0]),
        parameters=page.parameters(sections),
        layers=page.layers(layers),
        digests=[(path.name, sha256(path)) for path in (model, test_images, probabilities)],
    )

    artifacts.write_text(report, content)
    artifacts.write_bytes(learning_curves, pictures["learning_curves"])
    artifacts.write_bytes(confusion_matrix, pictures["confusion_matrix"])
    artifacts.write_bytes(mistakes, pictures["mistakes"])
    artifacts.write_bytes(recall, pictures["classes"])
    artifacts.write_bytes(reliability, pictures["reliability"])
    print(f"report: wrote {report}, the whole run on one page")


if __name__ == "__main__":
    command.run(main, Params)
