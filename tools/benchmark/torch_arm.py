"""The D2 step in PyTorch, as its users would write it: the other side of the comparison. Needs torch."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from r2d2_tf.config.config import Config
from r2d2_tf.data.datasets import DATASETS
from r2d2_tf.data.image_data import UNLABELED
from r2d2_tf.method.pseudo_labels import REFERENCE_BATCH


def lenet(image_shape: Sequence[int], num_classes: int) -> nn.Module:
    """As backbones.lenet."""
    height, width, channels = image_shape
    side = ((height - 4) // 2 - 4) // 2 * (((width - 4) // 2 - 4) // 2)
    return nn.Sequential(
        nn.Conv2d(channels, 20, 5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(50 * side, 500),
        nn.ReLU(inplace=True),
        nn.Linear(500, num_classes),
    )


def six_convolutions(image_shape: Sequence[int], num_classes: int, *, widths: Sequence[int]) -> nn.Module:
    """As backbones.conv_small and conv_medium, for images turned by half a circle.

    With strides TensorFlow pads below and on the right, PyTorch all around, which at an even side comes to padding above and
    on the left. Padding by hand would cost PyTorch a copy; turned images and kernels give the same logits without. Of batch
    normalization PyTorch's defaults are the authors' values; its momentum is the share of the new.
    """
    layers: list[nn.Module] = []
    channels = image_shape[-1]
    for filters in widths:
        for stride in (2, 1):
            layers += [nn.Conv2d(channels, filters, 3, stride, padding=1, bias=False), nn.BatchNorm2d(filters)]
            layers.append(nn.ReLU(inplace=True))
            channels = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


def cifar_fast(image_shape: Sequence[int], num_classes: int) -> nn.Module:
    """As backbones.cifar_fast."""
    layers: list[nn.Module] = []
    channels = image_shape[-1]
    blocks = [(24, 2, False), *[(filters, 3, pools) for filters in (64, 256, 256) for pools in (True, False)]]
    for filters, size, pools in blocks:
        layers += [nn.Conv2d(channels, filters, size, padding=(size - 1) // 2, bias=False)]
        layers += [nn.MaxPool2d(2)] if pools else []
        layers += [nn.BatchNorm2d(filters), nn.ReLU(inplace=True)]
        channels = filters
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


def conv_large(image_shape: Sequence[int], num_classes: int) -> nn.Module:
    """As backbones.conv_large."""
    layers: list[nn.Module] = []
    channels = image_shape[-1]

    blocks = [*[(128, 3, 1)] * 3, *[(256, 3, 1)] * 3, (512, 3, 0), (256, 1, 0), (128, 1, 0)]
    for number, (filters, size, padding) in enumerate(blocks, start=1):
        layers += [nn.Conv2d(channels, filters, size, padding=padding, bias=False), nn.BatchNorm2d(filters)]
        layers.append(nn.LeakyReLU(0.1, inplace=True))
        channels = filters
        if number in (3, 6):
            layers += [nn.MaxPool2d(2), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


NETWORKS: dict[str, Callable[[Sequence[int], int], nn.Module]] = {
    "lenet": lenet,
    "conv_small": functools.partial(six_convolutions, widths=(16, 32, 64)),
    "conv_medium": functools.partial(six_convolutions, widths=(64, 128, 256)),
    "cifar_fast": cifar_fast,
    "conv_large": conv_large,
}
TURNED = {"conv_small", "conv_medium"}
"""Networks whose images and kernels are turned by half a circle."""


class TorchD2:
    """Network, table and optimizer; `step` is one step of D2.

    `labels` is the given class of each row, `[rows]`, -1 where there is none.
    """

    def __init__(self, config: Config, labels: np.ndarray, learning_rate: float) -> None:
        self.config = config
        spec = DATASETS[config.dataset]
        self.network = NETWORKS[config.backbone](spec.image_shape, spec.num_classes).to(memory_format=torch.channels_last)
        self.table = torch.zeros(len(labels), spec.num_classes)
        labeled = np.flatnonzero(labels != UNLABELED)
        self.table[labeled, labels[labeled]] = config.label_logit
        self._row_step = torch.tensor(labels == UNLABELED, dtype=torch.float32)[:, None]
        self._row_step *= -config.pseudo_label_lr / REFERENCE_BATCH
        self._scale = torch.tensor([1 / (255 * s) for s in spec.std]).view(1, -1, 1, 1)
        self._offset = torch.tensor([-m / s for m, s in zip(spec.mean, spec.std, strict=True)]).view(1, -1, 1, 1)
        self._loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = self.loss
        # PyTorch's SGD adds weight_decay to the gradient: coupled L2.
        self.optimizer = torch.optim.SGD(
            self.network.parameters(),
            learning_rate,
            momentum=config.momentum,
            nesterov=True,
            weight_decay=config.weight_decay,
            foreach=True,
        )

    def compile(self) -> None:
        """Has torch.compile fuse loss and gradient: faster for conv_small, slower for lenet, where it was tried."""
        self._loss = torch.compile(self.loss)

    def batch(self, images: np.ndarray) -> torch.Tensor:
        """Images `[batch, height, width, channels]` uint8 as the network takes them: channels last in memory."""
        turned = images[:, ::-1, ::-1] if self.config.backbone in TURNED else images
        pixels = torch.from_numpy(np.ascontiguousarray(turned)).permute(0, 3, 1, 2)
        return pixels.contiguous(memory_format=torch.channels_last)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of pixels 0..255, `[batch, classes]`."""
        return self.network(images.float().mul_(self._scale).add_(self._offset))

    def loss(self, images: torch.Tensor, pseudo_logits: torch.Tensor) -> torch.Tensor:
        """Mean of eq. 2 over the batch."""
        log_p = functional.log_softmax(self.logits(images), 1)
        log_pseudo_p = functional.log_softmax(pseudo_logits, 1)
        p = log_p.exp()
        class_loss, entropy = (p * (log_p - log_pseudo_p)).sum(1), -(p * log_p).sum(1)
        return (self.config.alpha * class_loss + self.config.beta * entropy).mean()

    def step(self, images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """One step of D2, the network by SGD and the rows by eq. 7; returns the loss before it."""
        pseudo_logits = self.table.index_select(0, rows).requires_grad_()
        loss = self._loss(images, pseudo_logits)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            row_steps = self._row_step.index_select(0, rows).mul_(len(rows))
            self.table.index_add_(0, rows, pseudo_logits.grad.mul_(row_steps))
        return loss.detach()
