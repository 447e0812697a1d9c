"""Make noisy training pairs as the paper does: JPEG files, Keras's `ImageDataGenerator`, one blur per star.

The paper writes the images as JPEG files and gives the generator a two-step noise: random bright spots drawn with
OpenCV and blurred, then Gaussian noise. It does not print its code. Here each star has its own layer and its own blur,
which is the simplest way to give each star its own kernel size. Number and size of the stars follow `NoiseModel`, so
that both sides add the same kind of noise.
"""

import random
from pathlib import Path

import cv2
import keras
import numpy as np
import tensorflow as tf

from galaxynb.noise import STAR_COLOURS


def write_files(images, folder):
    """Write (N, H, H, 3) uint8 images as JPEG files of a single class, the layout that `flow_from_directory` reads."""
    folder = Path(folder) / "galaxies"
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        cv2.imwrite(str(folder / f"{number:05d}.jpg"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def add_noise(image, model, dice, rng):
    """Add stars and Gaussian noise to one float32 image in [0, 255]; `dice` is a `random.Random`."""
    side = image.shape[0]
    for _ in range(dice.randint(*model.n_stars)):
        colour = dice.choices(STAR_COLOURS, model.proportions)[0]
        brightness = 255 * dice.uniform(*model.brightness)
        rgb = [brightness * dice.uniform(*limits) for limits in getattr(model, colour)]
        centre = (dice.randrange(side), dice.randrange(side))
        radius = round(dice.uniform(*model.radius) * side)
        kernel = max(3, 2 * round((dice.uniform(*model.blur) * side - 1) / 2) + 1)
        layer = np.zeros_like(image)
        cv2.circle(layer, centre, radius, rgb, cv2.FILLED)
        image = cv2.add(image, cv2.GaussianBlur(layer, (kernel, kernel), 0))
    return np.clip(image + rng.normal(0, 255 * model.sigma, image.shape), 0, 255)


class Pairs(keras.utils.PyDataset):
    """Make batches of (noisy, raw) images with two Keras generators, over the same files in the same order."""

    def __init__(self, folder, image_size, batch_size, seed, model, **options):
        super().__init__(**options)
        dice, rng = random.Random(seed), np.random.default_rng(seed)
        generator = tf.keras.preprocessing.image.ImageDataGenerator
        noisy = generator(rescale=1 / 255, preprocessing_function=lambda image: add_noise(image, model, dice, rng))
        self.noisy, self.raw = (
            side.flow_from_directory(
                folder, target_size=(image_size, image_size), batch_size=batch_size, class_mode=None, seed=seed
            )
            for side in (noisy, generator(rescale=1 / 255))
        )

    def __len__(self):
        return len(self.noisy)

    def __getitem__(self, number):
        return self.noisy[number], self.raw[number]
