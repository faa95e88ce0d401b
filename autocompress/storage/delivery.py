"""A candidate's files, copied into a folder that stands on its own."""

import shutil
from dataclasses import replace
from pathlib import Path

from autocompress.evaluation import Evaluation
from autocompress.recipe import RecipeFile
from autocompress.storage.folder import RunFolder
from autocompress.storage.store import copy_file, write_text


def deliver(folder: RunFolder, evaluation: Evaluation, target: Path) -> None:
    """Copy a candidate's model, recipe and weights into a folder that stands on its own. Weights that are no longer in
    the store, which is bounded, are missed by whoever applies the recipe, not by who uses the model.
    """
    source = folder.root / evaluation.artifact
    shutil.rmtree(target, ignore_errors=True)  # what an earlier finish chose
    copy_file(source, target / "model.onnx")
    recipe = source.with_name("recipe.toml")
    stored = RecipeFile.read(recipe)
    if stored.weights is not None:
        weights = (recipe.parent / stored.weights).resolve()
        if weights.exists():
            copy_file(weights, target / "weights.safetensors")
        stored = replace(stored, weights="weights.safetensors")
    write_text(target / "recipe.toml", stored.to_toml())
