"""What training costs: images, and the multiply-adds of a network. An estimate: convolutions and dense layers alone."""

from dataclasses import dataclass

GPU = 10e12
"""Operations a second of the GPU that times are estimated for, sustained in float32."""
CPU_CORE = 40e9
"""Of one CPU core: what configs/cifar10_cpu.cfg sustained over the rows of table 1 in docs/results, evaluation included."""


@dataclass(frozen=True)
class Cost:
    """Images that a run trains on, and images that it only predicts."""

    trained: int
    predicted: int

    def without(self, other: "Cost") -> "Cost":
        """The rest, where `other` is done already."""
        return Cost(self.trained - other.trained, self.predicted - other.predicted)

    def seconds(self, multiply_adds: float, speed: float) -> float:
        """Seconds at `speed` operations a second: a trained image costs three forward passes."""
        return (3 * self.trained + self.predicted) * 2 * multiply_adds / speed
