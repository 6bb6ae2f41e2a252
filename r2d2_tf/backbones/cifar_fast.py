"""A network for small color images that two CPU cores can train in hours: few layers, and wide ones."""

import keras
from keras import layers

from r2d2_tf.backbones.layers import LayerMaker, authors_head, conv

_WIDTHS = (64, 256, 256)


def cifar_fast(image_shape: tuple[int, int, int], num_classes: int, batch_norm: LayerMaker) -> keras.Model:
    """Eight layers, laid out as the nets that set speed records on CIFAR-10 (Page 2018, Jordan 2024).

    They pool before they normalize, so that most of the work is in convolutions of many channels, which processors do best.
    Theirs begin with a layer that whitens patches of the data; here it is learned, as any other. 1,972,826 parameters and 118
    million multiply-adds at 32x32x3 and 10 classes.
    """
    body = [conv(24, 2), batch_norm(), layers.ReLU()]
    for width in _WIDTHS:
        body += [conv(width, 3, padding="same"), layers.MaxPooling2D(), batch_norm(), layers.ReLU()]
        body += [conv(width, 3, padding="same"), batch_norm(), layers.ReLU()]
    body.append(layers.GlobalMaxPooling2D())
    return keras.Sequential([keras.Input(image_shape), *body, authors_head(num_classes, _WIDTHS[-1])], name="cifar_fast")
