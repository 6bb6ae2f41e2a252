"""A network for runs in which it is not the point; in a process that a test starts, PYTHONPATH leads to it."""

import keras

from r2d2_tf.backbones.layers import LayerMaker, conv, dense


def strided(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """A convolution and a linear layer; of images of 28x28 pixels, 8x6x6 features."""
    layers = [keras.Input(image_shape), conv(8, 5, strides=4), keras.layers.ReLU(), keras.layers.Flatten(), dense(num_classes)]
    return keras.Sequential(layers, name="strided")


def normalized(image_shape: tuple[int, int, int], num_classes: int, batch_norm: LayerMaker) -> keras.Model:
    """The same with batch normalisation and dropout."""
    layers = [keras.Input(image_shape), conv(8, 5, strides=4), batch_norm(), keras.layers.ReLU(), keras.layers.Flatten()]
    return keras.Sequential([*layers, keras.layers.Dropout(0.1), dense(num_classes)], name="normalized")


def two_heads(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Its logits are a sum of two layers', so that no last layer makes them."""
    images = keras.Input(image_shape)
    features = keras.layers.Flatten()(images)
    return keras.Model(images, keras.layers.add([dense(num_classes)(features), dense(num_classes)(features)]))


def twice_normalized(image_shape: tuple[int, int, int], num_classes: int, batch_norm: LayerMaker) -> keras.Model:
    """Two convolutions with batch normalisation, and no dropout: what it learns does not depend on the number of replicas."""
    layers = [keras.Input(image_shape)]
    for filters in (8, 16):
        layers += [conv(filters, 3, strides=2, padding="same"), batch_norm(), keras.layers.ReLU()]
    return keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), dense(num_classes)], name="twice_normalized")


def linear(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """For images of any size."""
    return keras.Sequential([keras.Input(image_shape), keras.layers.Flatten(), dense(num_classes)], name="linear")
