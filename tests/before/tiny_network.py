"""The network of these runs, as `--backbone=tiny_network:tiny_network` names it: a user's own, 1,435 parameters."""

import keras
from keras import layers


def tiny_network(image_shape, num_classes, batch_norm):
    body = [
        layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False),
        batch_norm(),
        layers.ReLU(),
        layers.Dropout(0.1),
        layers.Conv2D(16, 3, strides=2, padding="same"),
        layers.ReLU(),
        layers.GlobalMaxPooling2D(),
    ]
    return keras.Sequential([keras.Input(image_shape), *body, layers.Dense(num_classes)], name="tiny_network")
