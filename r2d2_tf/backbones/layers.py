"""Layers that the backbones share, initialised as the authors do."""

from collections.abc import Callable
from typing import TypeAlias

import keras
import tensorflow as tf
from keras import initializers, layers

LayerMaker: TypeAlias = Callable[..., layers.Layer]
NUM_IMAGES = "num_images"
"""Argument that Keras passes down from a network to its layers, like `training`: how many images a replica has."""


def conv_initializer() -> initializers.Initializer:
    """Normal with standard deviation sqrt(2 / (kernel_size^2 * filters)); one instance a layer, as each has a seed."""
    return initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def dense_initializer() -> initializers.Initializer:
    """Uniform within +-1 / sqrt(fan_in); one instance a layer."""
    return initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


def bias_initializer(fan_in: int) -> initializers.Initializer:
    """Uniform within +-1 / sqrt(fan_in), as the authors' framework draws biases; a bias does not know its layer's `fan_in`."""
    return initializers.RandomUniform(-(fan_in**-0.5), fan_in**-0.5)


def conv(
    filters: int,
    kernel_size: int,
    *,
    strides: int = 1,
    padding: str = "valid",
    use_bias: bool = False,
    name: str | None = None,
) -> layers.Layer:
    return layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        use_bias=use_bias,
        kernel_initializer=conv_initializer(),
        name=name,
    )


def depthwise_conv(kernel_size: int, *, strides: int = 1, name: str | None = None) -> layers.Layer:
    """2-D convolution of each channel by itself, zeros around the image."""
    return layers.DepthwiseConv2D(
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        depthwise_initializer=conv_initializer(),
        name=name,
    )


def dense(units: int, *, name: str | None = None) -> layers.Layer:
    return layers.Dense(units, kernel_initializer=dense_initializer(), name=name)


def authors_head(num_classes: int, features: int) -> layers.Layer:
    """Dense layer whose bias, too, is drawn: `[batch, features]` to logits."""
    return layers.Dense(num_classes, kernel_initializer=dense_initializer(), bias_initializer=bias_initializer(features))


def head_of(network: keras.Model) -> layers.Layer:
    """The last layer with weights to be trained, within networks too: what other classes need anew."""
    *_, last = (layer for layer in network.layers if layer.trainable_weights)
    return head_of(last) if isinstance(last, keras.Model) else last


def features_of(backbone: keras.Model) -> keras.Model:
    """From pixels to what the head of a network that `backbones.build` made gets, before dropout; its layers are shared.

    `[batch, features]` where the head is dense; in 16 bits where the network computes in mixed precision.
    """
    head = head_of(backbone)
    images = pixels = keras.Input(backbone.input_shape[1:], name="pixels")
    for layer in backbone.layers[1:]:
        if layer is head:
            break
        if isinstance(layer, keras.Model) and any(inner is head for inner in layer.layers):
            images = _passing_on(keras.Model(layer.inputs, _before_dropout(layer, head.input)))(images)
            break
        images = layer(images)
    return _passing_on(keras.Model(pixels, images, name="features"))


def _passing_on(network: keras.Model) -> keras.Model:
    network._register_call_context_args(NUM_IMAGES)
    return network


def _before_dropout(network: keras.Model, tensor: keras.KerasTensor) -> keras.KerasTensor:
    dropped = [layer for layer in network.layers if isinstance(layer, layers.Dropout) and layer.output is tensor]
    return _before_dropout(network, dropped[0].input) if dropped else tensor


def normalizations_of(network: keras.Model) -> list[layers.BatchNormalization]:
    """Its layers of batch normalisation, within networks too. One that is not `trainable` stays as it is in training."""
    return [layer for layer in network._flatten_layers() if isinstance(layer, layers.BatchNormalization)]


def renew_constants(network: keras.Model) -> None:
    """Has Keras' Normalization layers normalize by their variables, after these were assigned: they keep a copy."""
    # Private: Keras is pinned.
    for layer in network._flatten_layers():
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()


@keras.saving.register_keras_serializable(package="r2d2_tf")
class Normalization(layers.Rescaling):
    """Keras' Rescaling, (pixels * scale + offset) with a number a channel, for `[batch, height, width, channels]`.

    TensorFlow takes twice as long where what it repeats is as short as three channels: here it is as long as a line of pixels.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """The same numbers as Rescaling's, bit for bit."""
        width, channels = inputs.shape[2:]
        lines = tf.reshape(tf.cast(inputs, self.compute_dtype), [-1, inputs.shape[1], width * channels])
        scale, offset = (tf.tile(tf.constant(each, lines.dtype), [width]) for each in (self.scale, self.offset))
        return tf.reshape(lines * scale + offset, [-1, *inputs.shape[1:]])


def batch_norm(
    *, synchronized: bool = False, momentum: float = 0.9, epsilon: float = 1e-5, name: str | None = None
) -> layers.Layer:
    """Batch normalisation with the authors' momentum 0.9 and epsilon 1e-5 (Keras' defaults are 0.99 and 1e-3).

    Args:
        synchronized: over the images of all replicas, not of each replica's own.
        momentum: what is left of the running statistics after a step.
        epsilon: added to the variance.
        name: of the layer.
    """
    return FusedBatchNormalization(momentum=momentum, epsilon=epsilon, synchronized=synchronized, name=name)


@keras.saving.register_keras_serializable(package="r2d2_tf")
class FusedBatchNormalization(layers.BatchNormalization):
    """Keras' batch normalisation on TensorFlow's fused kernel: `[batch, height, width, channels]` in and out.

    Keras' own is put together from simple operations, which costs passes over memory that the fused kernel saves. The
    running variance is the unbiased one, as in the authors' framework.

    With `synchronized=True` training takes the statistics over all replicas, which no kernel does. Keras' own way would count
    the blank image that a replica without images is shown, and takes the variance as mean(x^2) - mean(x)^2, which cancels.
    Who calls the network may say `num_images=0` on such a replica: what it sees then stays out of the statistics.
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self._register_call_context_args(NUM_IMAGES)

    def call(self, inputs: tf.Tensor, training: bool = False, num_images: tf.Tensor | None = None) -> tf.Tensor:
        """Normalises with the batch's statistics in training, with the running ones otherwise."""
        training = training and self.trainable
        if training and self.synchronized:
            output, mean, variance = self._normalized_over_replicas(inputs, num_images)
        else:
            empty = tf.zeros([0])
            output, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=inputs,
                scale=self.gamma,
                offset=self.beta,
                mean=empty if training else self.moving_mean,
                variance=empty if training else self.moving_variance,
                epsilon=self.epsilon,
                is_training=bool(training),
            )
        if training:
            for running, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
                running.assign(running * self.momentum + batch * (1.0 - self.momentum))
        return output

    def _normalized_over_replicas(
        self, inputs: tf.Tensor, num_images: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The normalised inputs, and mean and unbiased variance of those on all replicas."""
        x = tf.cast(inputs, tf.float32)
        weight = 1.0 if num_images is None else tf.cast(num_images > 0, tf.float32)
        count = _over_replicas(weight * tf.cast(tf.reduce_prod(tf.shape(x)[:-1]), tf.float32))
        mean = _over_replicas(weight * tf.reduce_sum(x, (0, 1, 2))) / count
        squares = _over_replicas(weight * tf.reduce_sum(tf.math.squared_difference(x, mean), (0, 1, 2)))
        output = tf.nn.batch_normalization(x, mean, squares / count, self.beta, self.gamma, self.epsilon)
        return tf.cast(output, inputs.dtype), mean, squares / tf.maximum(count - 1.0, 1.0)


def _over_replicas(values: tf.Tensor) -> tf.Tensor:
    """The sum of `values` over the replicas, through which gradients flow."""
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


class WeightNormalized(layers.Layer):
    """Weight normalisation (Salimans and Kingma 2016), mixed in before a Conv2D or Dense: kernel = g * v / ||v||.

    The norm is taken over all but the last axis of v, one for each output; g starts at ||v||.
    """

    _kernel: keras.Variable

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes v in place of the kernel, and g."""
        super().build(input_shape)
        self.v = self._kernel

        def length_of_v(shape: tuple[int, ...], dtype: str | None = None) -> tf.Tensor:
            return tf.cast(_norm(tf.cast(self.v, tf.float32)), dtype or tf.float32)

        self.g = self.add_weight(shape=(self.v.shape[-1],), name="g", initializer=length_of_v)

    @property
    def kernel(self) -> tf.Tensor:
        """The normalised kernel."""
        if not hasattr(self, "g"):
            return self._kernel
        # In mixed precision the norm, a sum of squares, would overflow in 16 bits.
        g, v = tf.cast(self.g, tf.float32), tf.cast(self.v, tf.float32)
        return tf.cast(g * (v / _norm(v)), self.compute_dtype)

    def save_own_variables(self, store: dict) -> None:
        """Saves every variable; Keras' own list for convolutions and dense layers would leave out g."""
        layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store: dict) -> None:
        """Loads what `save_own_variables` saved."""
        layers.Layer.load_own_variables(self, store)


def _norm(v: tf.Tensor) -> tf.Tensor:
    return tf.sqrt(tf.reduce_sum(tf.square(v), axis=list(range(len(v.shape) - 1))))


@keras.saving.register_keras_serializable(package="r2d2_tf")
class WeightNormConv2D(WeightNormalized, layers.Conv2D):
    """Conv2D with weight normalisation."""


@keras.saving.register_keras_serializable(package="r2d2_tf")
class WeightNormDense(WeightNormalized, layers.Dense):
    """Dense with weight normalisation."""


@keras.saving.register_keras_serializable(package="r2d2_tf")
class ShakeShake(layers.Layer):
    """Mixes two branches of equal shape with random weights, one an image (Gastaldi 2017).

    Training: u * a + (1 - u) * b forward, and fresh, independent weights u' in the backward pass, both uniform in 0..1.
    Evaluation: the mean.
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, branches: tuple[tf.Tensor, tf.Tensor], training: bool = False) -> tf.Tensor:
        """`branches`: two tensors `[batch, height, width, channels]`."""
        first, second = branches
        if not training:
            return 0.5 * (first + second)
        shape = (tf.shape(first)[0], 1, 1, 1)
        forward, backward = (
            weight * first + (1.0 - weight) * second
            for weight in (
                tf.cast(keras.random.uniform(shape, dtype="float32", seed=self.seed_generator), first.dtype) for _ in range(2)
            )
        )
        # The value is the forward mix; what it is differentiated through, the backward mix.
        return backward + tf.stop_gradient(forward - backward)
