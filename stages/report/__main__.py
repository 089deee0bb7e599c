"""Show the run on one page, how good, how it got there, where it fails, and as pictures.

Reads:  the parameters, the learning curve, the versions and the promise, what `evaluate` found
        out about the test images, these images, the class names, the model.
Writes: the page (HTML, self-contained), five figures (PNG).
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from stages.report import confusion, drawing, figures, gallery, inputs, mosaic, page
from stages.report.params import Params
from stages.shared import artifacts, command, network
from stages.shared.params import read


def sha256(path: Path) -> str:
    """Return the SHA-256 of the file at `path`, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def galleries(
    params: Params,
    images: np.ndarray,
    labels: Mapping[str, np.ndarray],
    probabilities: np.ndarray,
    names: Sequence[str],
) -> dict[str, list[gallery.Example]]:
    """Return the galleries of answers, by name.

    Args:
        params: how many to show.
        images: (n, height, width, channels) uint8.
        labels: `actual` and `predicted`, (n,) integers each.
        probabilities: (n, classes).
        names: of the classes.
    """
    confidence, wrong = probabilities.max(axis=1), labels["actual"] != labels["predicted"]
    chosen = {
        "mistakes": gallery.surest(wrong, confidence, params.mistakes),
        "sure": gallery.surest(~wrong, confidence, params.examples),
        "unsure": gallery.hardest(~wrong, confidence, params.examples),
    }
    about = (images, labels["actual"], probabilities, names)
    return {name: gallery.answers(indices, *about) for name, indices in chosen.items()}


def draw(
    params: Params,
    tables: Mapping[str, figures.Table],
    counts: np.ndarray,
    images: np.ndarray,
    labels: Mapping[str, np.ndarray],
    probabilities: np.ndarray,
    names: Sequence[str],
) -> tuple[dict[str, Markup], dict[str, bytes]]:
    """Return the page's figures as SVG, and the figures that are files as PNG, by name.

    Args:
        params: how many mistakes to show, and how finely.
        tables: of the page's figures, by name.
        counts: (classes, classes), the confusion matrix.
        images, labels, probabilities, names: as for `galleries`.
    """
    confidence, wrong = probabilities.max(axis=1), labels["actual"] != labels["predicted"]
    surest = gallery.surest(wrong, confidence, len(wrong))
    cells = mosaic.cells(
        surest, **labels, limit=params.mistakes, limit_in_cell=params.mistakes_in_cell
    )
    with figures.style():
        drawn = figures.drawn(tables)
        drawings = {name: figures.svg(name, figure) for name, figure in drawn.items()}
        files = {name: drawn[name] for name in ("learning_curves", "classes", "reliability")} | {
            "confusion_matrix": confusion.matrix(counts, names),
            "mistakes": mosaic.draw(cells, images, confidence, names),
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
    model: Path,
    test_images: Path,
    class_names: Path,
    report: Path,
    learning_curves: Path,
    confusion_matrix: Path,
    mistakes: Path,
    recall: Path,
    reliability: Path,
) -> None:
    """Read what the other stages wrote, draw, write."""
    names = inputs.document(class_names, list[str])
    labels = inputs.table(predictions, inputs.Prediction)
    scores, images = artifacts.read_array(probabilities), artifacts.read_array(test_images)
    inputs.check_sizes(labels, scores, images, len(names))
    classes = inputs.table(per_class, inputs.ClassScores)
    changes = inputs.table(robustness, inputs.Change)
    headline = inputs.document(evaluate_metrics, inputs.Headline)
    origin = inputs.document(provenance, inputs.Provenance)
    layers = network.read(model)
    tables = {
        "learning_curves": inputs.table(curve, inputs.Epoch),
        "classes": classes | {"class": np.array(names)},
        "reliability": inputs.table(calibration, inputs.Bin),
        "robustness": changes,
    }

    counts = confusion.count(**labels, classes=len(names))
    drawings, pictures = draw(params, tables, counts, images, labels, scores, names)
    content = page.render(
        "page.html",
        names=names,
        count=len(images),
        metrics=headline,
        provenance=origin,
        drawing=drawing.part(layers, names),
        figures=drawings,
        **galleries(params, images, labels, scores, names),
        confusion=confusion.table(counts),
        scores=page.by_class(classes, names),
        filters=gallery.filters(layers, images[0]),
        changed=int(changes["count"][0]),
        parameters=page.parameters(read(parameters)),
        layers=page.layers(layers),
        digests=[(path.name, sha256(path)) for path in (model, test_images, probabilities)],
    )

    artifacts.write_text(report, content)
    artifacts.write_bytes(learning_curves, pictures["learning_curves"])
    artifacts.write_bytes(confusion_matrix, pictures["confusion_matrix"])
    artifacts.write_bytes(mistakes, pictures["mistakes"])
    artifacts.write_bytes(recall, pictures["classes"])
    artifacts.write_bytes(reliability, pictures["reliability"])
    print(f"report: the whole run is on one page, {report}")


if __name__ == "__main__":
    command.run(main, Params)
