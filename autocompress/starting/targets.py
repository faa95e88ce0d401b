"""What targets are, and the loss and the metric of them: as the code says, else by the data and the model's outputs."""

from autocompress.starting.choice import Answers
from autocompress.starting.criteria import Criterion
from autocompress.starting.datasets import Arrays
from autocompress.starting.project import Project
from autocompress.starting.splits import Dataset
from autocompress.starting.tables import Table

CLASS_NUMBERS, NUMBERS, ONE_OF_TWO = (
    "labels",
    "numbers",
    "binary",
)  # what targets are; binary: 0.0 and 1.0 for one output
THRESHOLDS = {"nn.BCEWithLogitsLoss": 0, "nn.BCELoss": 0.5}  # above which an output stands for the second class
OF_NUMBERS = ('"mse"', "nn.MSELoss", "nn.L1Loss", "nn.SmoothL1Loss", "nn.HuberLoss")
OF_CLASSES = ('"cross_entropy"', "nn.CrossEntropyLoss", "nn.NLLLoss")


def criteria_for(project: Project, chosen: Answers) -> tuple[str, Criterion, Criterion]:
    """What targets are, the loss and the metric: of the model's own file first, then the only ones of the folder, else
    by the targets. A loss of classes is none of a single output.
    """
    one = chosen.weights.outputs == 1
    loss = _of(chosen, tuple(c for c in project.code.losses if not (one and called(c) in OF_CLASSES)))
    targets = _targets(chosen, loss)
    by_targets = {
        CLASS_NUMBERS: ('"cross_entropy"', '"accuracy"'),
        NUMBERS: ('"mse"', '"rmse"'),
        ONE_OF_TWO: ("nn.BCEWithLogitsLoss()", "accuracy"),
    }
    guesses = [Criterion(text, guessed=True) for text in by_targets[targets]]
    return targets, loss or guesses[0], _of(chosen, project.code.metrics) or guesses[1]


def called(criterion: Criterion) -> str:
    return criterion.text.partition("(")[0]


def _targets(chosen: Answers, loss: Criterion | None) -> str:
    """Of one output two classes as 0 and 1, or numbers, unless the files have words for more classes than that."""
    data, of_loss = chosen.data, called(loss) if loss else ""
    if chosen.weights.outputs != 1:
        return NUMBERS if isinstance(data, Dataset) and data.numbers else CLASS_NUMBERS
    if not isinstance(data, Dataset):
        return ONE_OF_TWO if of_loss in THRESHOLDS else NUMBERS
    has_numbers = isinstance(data, Arrays) or data.numbers or (isinstance(data, Table) and data.numeric)
    has_two = len(data.classes) == 2 or (isinstance(data, Arrays) and bool(data.two))
    if has_two and not (has_numbers and of_loss in OF_NUMBERS):
        return ONE_OF_TWO
    return NUMBERS if has_numbers else CLASS_NUMBERS


def target_code(chosen: Answers, targets: str) -> str:
    """The code of an example's target, or of all; as a column for a single output."""
    data, column = chosen.data, chosen.weights.outputs == 1
    if isinstance(data, Arrays):
        y = {
            CLASS_NUMBERS: "y.long()",
            NUMBERS: "y.float()",
            ONE_OF_TWO: f"(y == {max(data.two, default=1.0)!r}).float()",
        }
        return y[targets] + (".reshape(len(y), -1)" if column else "")
    if isinstance(data, Table):
        value = {CLASS_NUMBERS: "CLASSES.index(row[TARGET])", NUMBERS: "float(row[TARGET])"}
        value[ONE_OF_TWO] = f"float({value[CLASS_NUMBERS]})"
        return f"torch.tensor([{value[targets]} for row in rows])" + ("[:, None]" if column else "")
    number = "CLASSES.index(path.parent.name)"
    return f"torch.tensor([float({number})])" if targets == ONE_OF_TWO else number


def target_shown(chosen: Answers, targets: str) -> str:
    if isinstance(chosen.data, Table):
        return "targets (N, 1)" if chosen.weights.outputs == 1 else "targets (N,)"
    return "0.0 or 1.0 for its class (1,)" if targets == ONE_OF_TWO else "number of its class"


def _of(chosen: Answers, found: tuple[Criterion, ...]) -> Criterion | None:
    near = [criterion for criterion in found if criterion.file == chosen.model.made.file]
    near = near or [criterion for criterion in found if criterion.file is None] or list(found)
    return near[0] if len(near) == 1 else None


def threshold_of(targets: str, loss: Criterion, metric: Criterion) -> float | None:
    """Above which an output stands for the second class, for a metric that is guessed; None where targets are no two
    classes of one output.
    """
    return THRESHOLDS.get(called(loss), 0) if targets == ONE_OF_TWO and metric.guessed else None
