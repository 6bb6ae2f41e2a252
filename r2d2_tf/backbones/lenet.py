"""LeNet (LeCun et al. 1998) in its usual modern form: two convolutions, ReLU, max pooling, 500 units."""

import keras
from keras import layers

from r2d2_tf.backbones.layers import conv, dense


def lenet(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """LeNet: normalised images `[batch, *image_shape]` in, logits `[batch, num_classes]` out.

    431,080 parameters at 28x28x1 and 10 classes.
    """
    return keras.Sequential(
        [
            keras.Input(image_shape),
            conv(20, 5, use_bias=True),
            layers.ReLU(),
            layers.MaxPooling2D(),
            conv(50, 5, use_bias=True),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            dense(500),
            layers.ReLU(),
            dense(num_classes),
        ],
        name="lenet",
    )
