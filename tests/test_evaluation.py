"""What a family brought goes through JSON unchanged."""

import json
from collections.abc import Callable
from dataclasses import replace

from autocompress.evaluation import Evaluation, Outcome, Rejected, Score
from autocompress.latency import Latency
from autocompress.recipe import Recipe, Step


def test_outcome_goes_through_json_unchanged(make_latency: Callable[..., Latency]):
    recipe = Recipe((Step.of("carve", ratio=0.5), Step.of("train", lr=0.001)))
    evaluation = Evaluation(
        id="a-0",
        recipe=recipe,
        epochs=1.5,
        rung=0,
        score=Score(0.9, 0.88, 0.92),
        latency=make_latency(0.5, quiet=False),
        size_bytes=10,
        compressed_bytes=8,
        params=5,
        macs=7,
        artifact="candidates/a-0/model.onnx",
        digest="d",
        graph="g",
        outputs="val-1",
        elapsed_s=3.0,
    )
    outcome = Outcome(
        evaluations=(evaluation,),
        slower=(Rejected(recipe, "slower", 1.0, 0.9),),
        failed=((recipe, "squeeze", "no kernel"),),
        plans=({"history": [["conv", True, [0]]]},),
        checkpoint="weights-1",
        epochs=1.5,
        train_s=2.0,
    )
    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome
    assert Outcome.from_json(json.loads(json.dumps(Outcome().to_json()))) == Outcome()
    assert evaluation.at(9.0) == replace(evaluation, elapsed_s=9.0)
