"""The published recipes, each as published, on the arrays that `prepare` wrote.

Both train on all 60,000 training digits, our validation digits included.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.clocks import Curve
from tests.benchmarks.recipe import paths


def training_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return all training digits: images uint8 (n, 28, 28, 1), labels uint8 (n,)."""
    files = paths("train")
    return _read(files, "train_images", "validation_images"), _read(
        files, "train_labels", "validation_labels"
    )


def test_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the test digits, as `training_digits`."""
    files = paths("evaluate")
    return _read(files, "test_images"), _read(files, "test_labels")


def keras_network(shape: tuple[int, ...], classes: int) -> Any:
    """Return the network of Keras' "Simple MNIST convnet", compiled, for such images and classes.

    Source: https://keras.io/examples/vision/mnist_convnet/
    """
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input(shape=shape),
            layers.Conv2D(32, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Conv2D(64, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(classes, activation="softmax"),
        ]
    )
    model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    return model


def keras_by_epoch(seeds: Sequence[int], epochs: Sequence[int]) -> list[list[float]]:
    """Train Keras' network on our training images, for as many epochs as any of `epochs`.

    Its learning rate does not fall, so a long run is, after fewer epochs, the shorter one.

    Returns:
        The test accuracy after each of `epochs`, 0 to 1: a list per seed.
    """
    import keras

    files = paths("train")
    images = _read(files, "train_images").astype("float32") / 255
    labels = keras.utils.to_categorical(_read(files, "train_labels"))
    test_images, test_labels = test_digits()
    test_images = test_images.astype("float32") / 255
    found: list[list[float]] = []
    for seed in seeds:
        keras.utils.set_random_seed(seed)
        model = keras_network(images.shape[1:], labels.shape[1])
        found.append([])
        for epoch, previous in zip(epochs, [0, *epochs], strict=False):
            model.fit(
                images,
                labels,
                batch_size=128,
                epochs=epoch,
                initial_epoch=previous,
                verbose=2,
            )
            answers = model.predict(test_images, verbose=0)
            found[-1].append(float((answers.argmax(axis=1) == test_labels).mean()))
        keras.backend.clear_session()
    return found


def keras_convnet(seed: int, score: bool = True) -> dict[str, Any]:
    """Run Keras' "Simple MNIST convnet".

    Source: https://keras.io/examples/vision/mnist_convnet/

    Args:
        seed: of everything Keras draws; published without one.
        score: the test digits at every epoch's end; without, only at the end, as published.

    Returns:
        `seconds` of fitting and test `accuracy` at the end of every scored epoch.
    """
    import keras

    keras.utils.set_random_seed(seed)
    (images, labels), (test_images, test_labels) = training_digits(), test_digits()
    images = images.astype("float32") / 255
    test_images = test_images.astype("float32") / 255
    model = keras_network((28, 28, 1), 10)

    def accuracy() -> float:
        predicted = model.predict(test_images, verbose=0).argmax(axis=1)
        return float((predicted == test_labels).mean())

    curve = Curve()
    each_epoch = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: curve.mark(accuracy))
    model.fit(
        images,
        keras.utils.to_categorical(labels, 10),
        batch_size=128,
        epochs=15,
        validation_split=0.1,
        callbacks=[each_epoch] if score else [],
    )
    model.evaluate(test_images, keras.utils.to_categorical(test_labels, 10), verbose=0)
    return {"seconds": curve.seconds, "accuracy": curve.accuracy}


def pytorch_mnist(seed: int) -> dict[str, Any]:
    """Run PyTorch's examples/mnist.

    As published it does not shuffle on a CPU. The images are normalised once and for all, where
    the published script does it again every epoch: that is in its favour.

    Source: https://github.com/pytorch/examples/blob/main/mnist/main.py

    Returns:
        `seconds` of fitting and test `accuracy` at the end of every epoch.
    """
    import torch
    from torch import nn
    from torch.nn import functional
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(seed)
    model = nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Dropout(0.25), nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Linear(128, 10), nn.LogSoftmax(dim=1)),
    )
    train, test = (
        TensorDataset(
            torch.from_numpy((images.transpose(0, 3, 1, 2) / np.float32(255) - 0.1307) / 0.3081),
            torch.from_numpy(labels.astype(np.int64)),
        )
        for images, labels in (training_digits(), test_digits())
    )
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)

    def accuracy() -> float:
        model.eval()
        with torch.no_grad():
            right = sum(
                (model(images).argmax(dim=1) == labels).sum().item()
                for images, labels in DataLoader(test, batch_size=1000)
            )
        return float(right / len(test))

    curve = Curve()
    for _ in range(14):
        model.train()
        for images, labels in DataLoader(train, batch_size=64):
            optimizer.zero_grad()
            functional.nll_loss(model(images), labels).backward()
            optimizer.step()
        scheduler.step()
        curve.mark(accuracy)
    return {"seconds": curve.seconds, "accuracy": curve.accuracy}


def _read(files: dict[str, Path], *names: str) -> np.ndarray:
    return np.concatenate([np.load(files[name]) for name in names])
