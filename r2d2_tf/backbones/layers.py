"""Layers that the backbones share, initialised as the authors do."""

from keras import initializers, layers


def conv(filters: int, kernel_size: int, *, strides: int = 1, padding: str = "valid", use_bias: bool = False) -> layers.Layer:
    """2-D convolution, weights normal with standard deviation sqrt(2 / (kernel_size^2 * filters))."""
    return layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        use_bias=use_bias,
        kernel_initializer=initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
    )


def dense(units: int) -> layers.Layer:
    """Fully connected layer, weights uniform within +-1 / sqrt(fan_in)."""
    return layers.Dense(units, kernel_initializer=initializers.VarianceScaling(1 / 3, "fan_in", "uniform"))
