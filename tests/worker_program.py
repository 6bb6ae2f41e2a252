"""Trains as r2d2_tf.train does, and leaves what this worker learned: `worker_program.py FILE.npz FLAGS...`."""

import os
import sys

import numpy as np

from r2d2_tf import train
from r2d2_tf.system import resources
from r2d2_tf.training import ending
from r2d2_tf.training.experiment import Experiment

path, *flags = sys.argv[1:]
run_to_the_end = Experiment.run


def run_and_dump(self, *arguments):
    summary = run_to_the_end(self, *arguments)
    table = np.concatenate([logits for _, logits in self.table.walk()])
    weights = {f"weight_{number}": weight for number, weight in enumerate(self.model.backbone.get_weights())}
    np.savez(path, table=table, notes=self.table.notes(np.arange(len(table))), **weights)
    return summary


def no_memory(sizes):
    raise ValueError("no memory here")


Experiment.run = run_and_dump
# As in conftest.py: to draw takes long.
ending.plot_run = lambda rows, title, path: path.touch()
if os.environ.get("WORKER_WITHOUT_MEMORY") and '"index": 1' in os.environ["TF_CONFIG"]:
    resources.check_memory = no_memory
sys.exit(train.main(flags))
