"""Whether a copy of the user's model computes with its own weights. What is kept on a module as a bound function (a
method that was compiled, say) is copied as it is, and goes on computing with the module of the user.
"""

import torch

from autocompress.data.first_examples import FirstExamples
from autocompress.data.model_call import call
from autocompress.errors import UsageError
from autocompress.nested import tensors_of
from autocompress.task import Task


def refuse_weights_of_others(task: Task, first: FirstExamples) -> None:
    """Raises UsageError when the outputs of a copy stay as they are whatever its parameters become."""
    outputs = [tensor for tensor in tensors_of(first.returned) if tensor.is_floating_point()]
    changed = task.copy_of_model()
    parameters = list(changed.parameters())
    if not outputs or not parameters:
        return
    with torch.no_grad():
        for parameter in parameters:
            parameter.mul_(-1.7).add_(0.3)  # whatever they are, other ones
        try:
            others = [t for t in tensors_of(call(changed, first.batch.inputs)) if t.is_floating_point()]
        except Exception:  # the user's model may refuse such weights, and so it has seen them
            return
    if len(others) == len(outputs) and all(map(torch.equal, outputs, others)):
        raise UsageError(
            "a copy of Task.model computes the same whatever its parameters are: a function kept on it, such as a "
            "compiled method, is bound to your module; hand over the module without it"
        )
