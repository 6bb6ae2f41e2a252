"""Writes what the tests of EfficientNet-Lite compare with, by its definition in PyTorch.

Needs, beside requirements.txt: torch 2.13.0, efficientnet-lite-pytorch 0.1.0 and the three packages of weights, all 0.1.0.
`PYTHONPATH=.:tests:tests/backbones python tests/backbones/record_efficientnet_lite.py`
"""

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from test_efficientnet_lite import NAMES, RECORDED, SIDES, build, drawn_weights, pixels_of

from r2d2_tf.backbones.weights import packages


def logits(name, state, side, classes):
    # Without an image size the convolutions pad as TensorFlow does for the image that comes.
    network = EfficientNet.from_name(name.replace("_", "-"), image_size=None, num_classes=classes).eval()
    problems = network.load_state_dict(state, strict=False)
    assert not problems.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in problems.missing_keys)
    images = (pixels_of(side).astype(np.float32) - 127.0) / 128.0
    with torch.no_grad():
        return network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()


def main():
    recorded = {}
    for name in NAMES:
        drawn = {key: torch.from_numpy(value) for key, value in drawn_weights(build(name, 75, classes=12)).items()}
        recorded[f"drawn_{name}"] = logits(name, drawn, 75, 12)
        imagenet = torch.load(packages.file_of(name), weights_only=True)
        recorded[f"imagenet_{name}"] = logits(name, imagenet, SIDES[name], 1000)
        print({key: (value.shape, value.std()) for key, value in recorded.items()})
    np.savez_compressed(RECORDED, **recorded)
    counted = torch.arange(24.0).reshape(2, 3, 4)
    state = {"plain": counted, "transposed": counted.permute(2, 0, 1), "part": counted[1:, ::2]}
    state |= {"half": counted.half(), "count": torch.tensor(7)}
    torch.save(state, RECORDED.with_name("state_dict_zip.pth"))
    torch.save(state, RECORDED.with_name("state_dict_old.pth"), _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main()
