"""The galleries: which test images to show, and each with what the model said."""

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from stages.report.figures import short
from stages.report.pictures import ink, signed
from stages.shared import network
from stages.shared.network import Layer

# So many of the probabilities are told when the pointer rests on a picture.
TOLD = 5


def surest(chosen: np.ndarray, confidence: np.ndarray, limit: int) -> list[int]:
    """Return the images where `chosen` (n,) is true, the surest first, at most `limit`."""
    return _ordered(chosen, -confidence, limit)


def hardest(chosen: np.ndarray, confidence: np.ndarray, limit: int) -> list[int]:
    """Return the images where `chosen` (n,) is true, the least sure first, at most `limit`."""
    return _ordered(chosen, confidence, limit)


def _ordered(chosen: np.ndarray, key: np.ndarray, limit: int) -> list[int]:
    """Of equal ones the lower index comes first."""
    held = np.flatnonzero(chosen)
    order: list[int] = held[np.argsort(key[held], kind="stable")][:limit].tolist()
    return order


def answers(
    indices: Iterable[int],
    images: np.ndarray,
    actual: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
) -> str:
    """Return a figure an image: what the model said, what else it was or could have been, which.

    Args:
        indices: of the images to show.
        images: (n, height, width, channels) uint8, of which the first channel is shown.
        actual: (n,) integers, labels.
        probabilities: (n, classes).
        names: of the classes.
    """
    return "".join(
        _answer(i, images[i, ..., 0], int(actual[i]), probabilities[i], names) for i in indices
    )


def _answer(
    index: int, image: np.ndarray, true: int, probabilities: np.ndarray, names: Sequence[str]
) -> str:
    order = np.argsort(-probabilities, kind="stable")
    said, second = order[:2].tolist()
    other, word = (second, "or") if said == true else (true, "is")
    told = "\n".join(f"{names[label]}: {probabilities[label]:.2%}" for label in order[:TOLD])
    says = f"Test image {index}, a {names[true]}, taken for {names[said]}"
    return (
        f'<figure title="{escape(told)}">{ink(image, says)}<figcaption>'
        f"<b>said {escape(short(names[said]))}</b> <i>{probabilities[said]:.1%}</i>"
        f"<span>{word} {escape(short(names[other]))}</span> <i>{probabilities[other]:.1%}</i>"
        f"<small>no. {index}</small></figcaption></figure>"
    )


def filters(layers: list[Layer], image: np.ndarray) -> str:
    """Return a figure a filter of the first convolution: its weights, and what it sees in `image`.

    Args:
        layers: of the network.
        image: (height, width, channels) uint8.
    """
    kinds = [layer.kind for layer in layers]
    if "Conv2D" not in kinds:
        return "<p>The network has no convolution.</p>"
    upto = layers[: kinds.index("Conv2D") + 1]
    if lack := network.unknown(upto):
        return f"<p>This page cannot compute what they see: {escape(lack)}.</p>"
    kernel, seen = upto[-1].weights[0], np.maximum(network.run(upto, image)[-1], 0)
    strength = np.round(255 * seen / max(seen.max(), np.finfo(np.float32).tiny)).astype(np.uint8)
    return "".join(
        f"<figure>{signed(kernel[:, :, 0, i], f'Weights of filter {i}')}"
        f"{ink(strength[..., i], f'What filter {i} sees')}"
        f"<figcaption><small>no. {i}</small></figcaption></figure>"
        for i in range(kernel.shape[-1])
    )
