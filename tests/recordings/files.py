"""The files of a run folder that no process writes."""

from dataclasses import dataclass, field

from autocompress.recipe import Recipe


@dataclass
class Remembered:
    """What is on the disk, over all processes of a scenario: the recipe of each file and its rung, by its path, and its
    score.
    """

    recipes: dict[str, Recipe] = field(default_factory=dict)
    rungs: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)  # examples, by a family's id and rung
    scores: dict[str, float] = field(default_factory=dict)  # by the name of the file's folder

    def knows(self, recipe: Recipe, path: str, rung: int) -> None:
        self.recipes[path], self.rungs[path] = recipe, rung
