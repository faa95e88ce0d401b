"""Fine-tuning: trains the compressed model on the task's own loss.

Changes: the weights. Needs: nothing. It is the yardstick for distillation, which it excludes: with both there is a
teacher. Follows: Han et al., "Learning both Weights and Connections for Efficient Neural Networks", NIPS 2015 (what
stays is trained on); Renda, Frankle & Carbin, "Comparing Rewinding and Fine-tuning in Neural Network Pruning", ICLR
2020, for doing it under a learning rate that starts high again.
"""

from autocompress.plugin.contract import Context, Params, Strategy, TrainHook, TrainingStrategy
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.distillation.distillation import TEACHER

autocompress_api = 2


class Finetune(TrainingStrategy):
    name = "finetune"
    summary = "train on the task's own loss, without a teacher"
    excludes = TEACHER
    trains_alone = True

    def hook(self, params: Params, context: Context) -> TrainHook:
        return TrainHook()


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [Finetune()]
