"""R2-D2: repetitive reprediction deep decipher for semi-supervised learning.

The method of Wang and Wu (AAAI 2020) on Keras 3 and TensorFlow. Start with
`python -m r2d2_tf.train --flagfile=configs/mnist5k.cfg`; BUILD.md explains the rest.
"""

__version__ = "0.1.0"
