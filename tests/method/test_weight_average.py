"""The average of the weights: what it is, when the network has it, and that it disturbs nothing."""

import keras
import numpy as np
import pytest
from conftest import batches_of, make_model, make_strategy, tiny_images, tiny_labels

from r2d2_tf.method.weight_average import WeightAverage

COUNT, MOMENTUM = 12, 0.7


def trained(strategy, epochs, momentum):
    """A model after epochs of 4 steps, its weights after each step, and the average's before `fit` let go of it."""
    model = make_model(strategy, tiny_labels(COUNT, 6), pseudo_label_lr=10.0)
    begun = model.get_weights()
    model.average = WeightAverage(model, momentum) if momentum else None
    path, averages = [], []
    follow = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: (
            path.append(model.get_weights()),
            averages.append([variable.numpy() for variable in model.average.variables] if momentum else []),
        )
    )
    model.fit(
        batches_of(tiny_images(COUNT), np.arange(COUNT), 3),
        epochs=epochs,
        callbacks=[*([model.average] if momentum else []), follow],
        shuffle=False,
        verbose=0,
    )
    return model, begun, path, averages


def test_it_is_the_debiased_mean_of_the_weights_after_each_step_and_what_fit_ends_with(strategy):
    model, _, path, averages = trained(strategy, 2, MOMENTUM)
    for step in range(1, len(path) + 1):
        shares = MOMENTUM ** np.arange(step - 1, -1, -1.0)
        for number, average in enumerate(averages[step - 1]):
            expected = np.average([weights[number] for weights in path[:step]], axis=0, weights=shares)
            np.testing.assert_allclose(average, expected, rtol=1e-5, atol=1e-6)
    for weight, average in zip(model.get_weights(), averages[-1], strict=True):
        np.testing.assert_array_equal(weight, average)


def test_it_follows_without_disturbing():
    strategy = make_strategy(1)
    for with_it, without in zip(trained(strategy, 1, MOMENTUM)[2], trained(strategy, 1, 0.0)[2], strict=True):
        for one, other in zip(with_it, without, strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_network_predicts_with_it_and_then_has_its_weights_again_bit_for_bit(strategy):
    model, begun, _, _ = trained(strategy, 1, MOMENTUM)
    ended = model.get_weights()
    images, classes = tiny_images(COUNT), np.arange(COUNT) % 3
    for variable, value in zip(model.average.variables, begun, strict=True):
        variable.assign(value)
    seen = model.evaluate(batches_of(images, classes, 5), verbose=0, return_dict=True)
    model.repredict(batches_of(images, np.arange(COUNT), 5))
    rows = model.table.gather(np.arange(6, COUNT)).numpy()
    for weight, value in zip(model.get_weights(), ended, strict=True):
        np.testing.assert_array_equal(weight, value)
    other = make_model(make_strategy(1), tiny_labels(COUNT, 6))
    assert seen == pytest.approx(other.evaluate(batches_of(images, classes, 5), verbose=0, return_dict=True))
    np.testing.assert_allclose(rows, other.backbone(images[6:]), rtol=1e-5, atol=1e-6)


def test_an_evaluation_that_is_broken_off_leaves_the_weights():
    model, _, _, _ = trained(make_strategy(1), 1, MOMENTUM)
    model.average.variables[0].assign(np.zeros_like(model.get_weights()[0]))
    ended = model.get_weights()

    def stop():
        raise KeyboardInterrupt

    model.between_batches = stop
    with pytest.raises(KeyboardInterrupt):
        model.repredict(batches_of(tiny_images(COUNT), np.arange(COUNT), 5))
    np.testing.assert_array_equal(model.get_weights()[0], ended[0])
