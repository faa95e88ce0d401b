"""A saved classifier of transformers and data become a task: classes, inputs, loss and students are its own."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from autocompress import Task
from autocompress.candidate.preparation import prepare
from autocompress.errors import UsageError
from autocompress.fingerprint import parts_of
from autocompress.hub_request import HubRequest
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.storage.folder import RunFolder
from autocompress_plugins.hubs.hf import HuggingFace
from tests.plugins.hubs.conftest import SaveText, WriteImages, WriteTexts

pytest.importorskip("transformers")
pytest.importorskip("datasets")


KNOWN = ["positive", "negative"]


def task_of_hub(model: Path | str, data: Path | str, checkpoint: Path | None = None) -> Task:
    return HuggingFace().task(HubRequest("hf", str(model), str(data), checkpoint and str(checkpoint)))


def test_a_text_classifier_and_a_csv_file_make_a_task(
    save_text: SaveText, write_texts: WriteTexts, fake_profile: HardwareProfile, plugins: PluginSet, tmp_path: Path
) -> None:
    task = task_of_hub(save_text(), write_texts())
    inputs, targets = task.train
    assert set(inputs) == {"input_ids", "attention_mask"}
    assert inputs["input_ids"].shape == (len(targets), 7), "padded to the longest text"
    lengths = inputs["attention_mask"].sum(1)
    assert lengths.min() < lengths.max()
    assert (task.labels, task.metric, task.loss) == (["negative", "positive"], "accuracy", "cross_entropy")
    assert max(task.learning_rates) <= 1e-4
    splits = [task.train, task.val, task.test]
    assert [len(labels) for _, labels in splits] == [28, 6, 6]
    (tmp_path / "run").mkdir()
    opened, prepared = prepare(task, fake_profile, plugins, RunFolder(tmp_path / "run"))
    assert opened.context.layout.dynamic == {name: {1: "sequence"} for name in inputs}, "the file takes any length"
    assert prepared.training["lr"] == tuple(task.learning_rates)
    assert {a.name for a in prepared.applicable} >= {"prune_attention", "drop_blocks", "distill_logits"}


def test_labels_follow_the_models_names_whatever_their_order_in_the_data(
    save_text: SaveText, write_texts: WriteTexts
) -> None:
    data = write_texts(["Positive", "Negative"])
    _, one = task_of_hub(save_text("one", ("negative", "positive")), data).train
    _, other = task_of_hub(save_text("other", ("positive", "negative")), data).train
    assert torch.equal(one, 1 - other)


def test_data_are_split_alike_each_time_and_no_example_is_in_two_splits(
    save_text: SaveText, write_texts: WriteTexts
) -> None:
    from autocompress_plugins.hubs.labelled_data import labelled_data

    data = write_texts([str(number) for number in range(40)])
    first, again = (labelled_data(str(data)).labels for _ in range(2))
    assert first == again
    every = [label for labels in first.values() for label in labels]
    assert len(every) == len(set(every)) == 40


def test_numbers_are_scored_as_numbers(save_text: SaveText, write_texts: WriteTexts) -> None:
    task = task_of_hub(save_text(labels=["score"]), write_texts([0.5, 1.5, 2.5]))
    assert (task.loss, task.metric, task.labels) == ("mse", "mae", None)
    assert sorted(set(task.train[1].tolist())) == [0.5, 1.5, 2.5]


def test_several_labels_an_example_have_a_loss_of_their_own(save_text: SaveText, tmp_path: Path) -> None:
    rows = [{"text": "good bad", "label": ["a", "b"]}, {"text": "it was", "label": ["c"]}, {"text": "a", "label": []}]
    (tmp_path / "several.json").write_text("\n".join(json.dumps(row) for row in rows * 6))
    model = save_text(labels=["a", "b", "c"], problem_type="multi_label_classification")
    task = task_of_hub(model, tmp_path / "several.json")
    assert {tuple(row) for row in task.train[1].tolist()} == {(1, 1, 0), (0, 0, 1), (0, 0, 0)}
    assert isinstance(task.loss, torch.nn.BCEWithLogitsLoss)


def test_a_number_for_each_class_is_taken_as_it_is(save_text: SaveText, tmp_path: Path) -> None:
    model = save_text(labels=["a", "b", "c"], problem_type="multi_label_classification")

    def targets_of(*labels: list[float]) -> set[tuple[float, ...]]:
        rows = [{"text": "good bad", "label": label} for label in labels]
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        path.write_text("\n".join(json.dumps(row) for row in rows * 8))
        return {tuple(row) for row in task_of_hub(model, path).train[1].tolist()}

    assert targets_of([0.0, 1.0, 0.0], [1.0, 1.0, 0.0]) == {(0, 1, 0), (1, 1, 0)}
    assert targets_of([0, 1, 0], [1, 1, 0]) == {(0, 1, 0), (1, 1, 0)}
    assert targets_of([0, 1], [2]) == {(1, 1, 0), (0, 0, 1)}, "numbers of classes"
    for odd in ([0.0, 1.0], [0.0, 2.0, 0.0]):
        with pytest.raises(UsageError, match=r"have the label \[0\.0, .* and the model has 3 classes"):
            targets_of(odd)


def with_positions_behind_padding(folder: Path) -> Path:
    """The same as a model of RoBERTa, which has two places less than its table."""
    import transformers

    own = json.loads((folder / "config.json").read_text())
    kept = {name: own[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")}
    config = transformers.RobertaConfig(
        **kept, intermediate_size=16, max_position_embeddings=9, pad_token_id=1, id2label={0: "negative", 1: "positive"}
    )
    transformers.RobertaForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_texts_are_cut_to_the_positions_that_a_model_has(save_text: SaveText, write_texts: WriteTexts) -> None:
    data = write_texts(header=("premise", "hypothesis", "label"))
    task = task_of_hub(with_positions_behind_padding(save_text()), data)
    inputs, _ = task.train
    assert inputs["input_ids"].shape[1] == 9 - 1 - 1
    full = inputs["attention_mask"].all(1)
    assert full.any()
    with torch.no_grad():
        task.model(**{name: tensor[full] for name, tensor in inputs.items()})
    odd = save_text("odd")
    config = json.loads((odd / "tokenizer_config.json").read_text())
    (odd / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": -1}))
    assert task_of_hub(odd, data).train[0]["input_ids"].shape[1] == 12, "a limit of -1 is none"


def test_pairs_of_texts_say_which_tokens_are_of_the_second(save_text: SaveText, write_texts: WriteTexts) -> None:
    inputs, _ = task_of_hub(save_text(), write_texts(header=("premise", "hypothesis", "label"))).train
    kinds, real = inputs["token_type_ids"], inputs["attention_mask"].bool()
    assert {tuple(row[own].unique().tolist()) for row, own in zip(kinds, real, strict=True)} == {(0, 1)}
    assert (kinds.diff(dim=1)[real[:, 1:]] >= 0).all(), "the second text stands behind the first"
    assert inputs["input_ids"].shape[1] == 12, "cut to what the model takes"


def test_two_columns_of_text_that_are_no_pair_by_name_are_refused(save_text: SaveText, write_texts: WriteTexts) -> None:
    with pytest.raises(UsageError, match=r"called text and text_pair, premise and .* have 2 \(id, text\) beside label"):
        task_of_hub(save_text(), write_texts(header=("id", "text", "label")))
    inputs, _ = task_of_hub(save_text(), write_texts(header=("id", "sentence1", "sentence2", "label"))).train
    assert "token_type_ids" in inputs


def test_weights_that_are_missing_are_not_drawn_at_random(
    save_text: SaveText, write_texts: WriteTexts, tmp_path: Path
) -> None:
    folder = save_text()
    whole = load_file(folder / "model.safetensors")
    save_file(whole, tmp_path / "whole.safetensors")
    part = {name: value for name, value in whole.items() if not name.startswith("classifier")}
    save_file(part, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UsageError, match=r"has no weights for classifier\.bias, classifier\.weight, of 2 in all"):
        task_of_hub(folder, write_texts())
    task_of_hub(folder, write_texts(), tmp_path / "whole.safetensors")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each time that the library of the hub is asked for files, whether it may look on the disk alone."""
    import huggingface_hub

    found, look = [], huggingface_hub.snapshot_download

    def download(name: str, **options: Any) -> Any:
        found.append(bool(options.get("local_files_only")))
        return look(name, **options)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return found


@pytest.mark.parametrize("weights", [True, False])
def test_a_model_in_the_cache_is_taken_from_there_and_one_without_weights_is_not(
    save_text: SaveText, write_texts: WriteTexts, tmp_path: Path, asked: list[bool], weights: bool
) -> None:
    """As `snapshot_download` leaves it that was asked for the files of a model: the repository has others."""
    repository = tmp_path / "hub-cache" / "models--owner--name"
    for folder in ("refs", "snapshots", "trees"):
        (repository / folder).mkdir(parents=True)
    commit = "0" * 40
    (repository / "refs" / "main").write_text(commit)
    save_text().rename(repository / "snapshots" / commit)
    held = repository / "snapshots" / commit
    files = {path.name: {"size": 1, "blob_id": commit} for path in held.iterdir() if weights or path.suffix == ".json"}
    if not weights:
        (held / "model.safetensors").unlink()
    tree = {"format_version": 1, "files": files | {"flax_model.msgpack": {"size": 1, "blob_id": commit}}}
    (repository / "trees" / f"{commit}.json").write_text(json.dumps(tree))
    request = HubRequest("hf", "owner/name", str(write_texts()))
    found = HuggingFace().files(request)
    if weights:
        assert found[0] == held / "model.safetensors"
        assert HuggingFace().task(request).labels == ["negative", "positive"]
        assert set(asked) == {True}, "a later process does not ask for newer weights"
    else:
        assert found == []
        with pytest.raises(UsageError, match="has no weights: it needs"):
            HuggingFace().task(request)


def test_what_a_run_names_is_looked_for_on_the_disk_alone(
    save_text: SaveText, write_texts: WriteTexts, asked: list[bool]
) -> None:
    data = str(write_texts())
    for model, given in (("some/model", data), (str(save_text()), "some/data"), ("./gone", data)):
        assert HuggingFace().files(HubRequest("hf", model, given)) == []
    assert set(asked) == {True}


def test_another_smaller_model_that_comes_later_makes_no_other_task(
    save_text: SaveText, write_texts: WriteTexts, tmp_path: Path
) -> None:
    folder, data = save_text(width=32), write_texts()
    before = parts_of(task_of_hub(folder, data))
    save_text("smaller", width=8)
    assert parts_of(task_of_hub(folder, data)) == before
    elsewhere = folder.rename(tmp_path / "elsewhere")
    assert parts_of(task_of_hub(elsewhere, data)) == before, "wherever it lies"


def test_weights_of_a_checkpoint_take_the_place_of_the_models(
    save_text: SaveText, write_texts: WriteTexts, tmp_path: Path
) -> None:
    folder = save_text()
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"] = torch.tensor([5.0, 7.0])
    save_file(weights, tmp_path / "tuned.safetensors")
    task = task_of_hub(folder, write_texts(), tmp_path / "tuned.safetensors")
    assert task.model.classifier.bias.tolist() == [5.0, 7.0]
    save_file({"nothing": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="is not of this model"):
        task_of_hub(folder, write_texts(), tmp_path / "other.safetensors")


def test_a_smaller_model_beside_it_with_its_vocabulary_is_a_student(
    save_text: SaveText, write_texts: WriteTexts
) -> None:
    folder = save_text(width=32)
    assert task_of_hub(folder, write_texts()).student is None
    save_text("larger", width=64)
    smaller = save_text("smaller", ["LABEL_0", "LABEL_1", "LABEL_2"], width=8)
    other = save_text("other-words", width=8)
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] = {word[::-1]: n for word, n in tokenizer["model"]["vocab"].items()}
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    student = task_of_hub(folder, write_texts()).student
    assert student is not None
    assert [name for _, name in student.members] == [str(smaller)]
    built = student(0.5)
    own = load_file(smaller / "model.safetensors")
    assert torch.equal(built.bert.embeddings.word_embeddings.weight, own["bert.embeddings.word_embeddings.weight"])
    assert built.classifier.out_features == 2, "the task's classes"
    save_text("tiny", width=4)
    later = task_of_hub(folder, write_texts()).student
    assert later is not None
    assert len(later.members) == 2
    assert later.with_members(student.members).widths == student.widths, "a search that has begun keeps those it knows"


def test_an_image_classifier_and_folders_of_images_make_a_task(
    write_images: WriteImages, fake_profile: HardwareProfile, plugins: PluginSet, tmp_path: Path
) -> None:
    import transformers

    names = {0: "cat", 1: "dog"}
    settings = transformers.ViTConfig(
        image_size=16, patch_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        id2label=names, label2id={name: number for number, name in names.items()},
    )  # fmt: skip
    transformers.ViTForImageClassification(settings).save_pretrained(tmp_path / "vit")
    transformers.ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "vit")
    data = write_images("train/dog", "train/cat", "val/cat", "val/dog")
    task = task_of_hub(tmp_path / "vit", data)
    pixels, _ = task.train[0]
    assert pixels["pixel_values"].shape == (3, 16, 16)
    assert pixels["pixel_values"].min() >= -1
    assert {int(task.train[i][1]) for i in range(len(task.train))} == {0, 1}
    assert (len(task.train), len(task.val), task.test) == (12, 12, None)
    assert task.labels == ["cat", "dog"]
    (tmp_path / "run").mkdir()
    prepare(task, fake_profile, plugins, RunFolder(tmp_path / "run"))
    assert (tmp_path / "run" / "reference" / "model.onnx").exists()


def test_an_audio_classifier_and_folders_of_sounds_make_a_task(ears: Path, tmp_path: Path) -> None:
    task = task_of_hub(ears, write_sounds(tmp_path / "sounds", "high", "low"))
    inputs, _ = task.train[0]
    assert {name: tensor.shape for name, tensor in inputs.items()} == {"input_values": (round(0.18 * 16000),)}
    assert (task.labels, len(task.train), len(task.val)) == (["high", "low"], 6, 2)
    assert task.model(**{name: tensor[None] for name, tensor in inputs.items()}).logits.shape == (1, 2)


@pytest.fixture
def ears(tmp_path: Path) -> Path:
    """A folder with an audio classifier of two classes."""
    import transformers

    settings = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=(8, 8),
        conv_stride=(5, 4), conv_kernel=(10, 8), num_feat_extract_layers=2, num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2, classifier_proj_size=8, id2label={0: "high", 1: "low"},
        label2id={"high": 0, "low": 1},
    )  # fmt: skip
    transformers.Wav2Vec2ForSequenceClassification(settings).save_pretrained(tmp_path / "ears")
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=16000).save_pretrained(tmp_path / "ears")
    return tmp_path / "ears"


def write_sounds(folder: Path, *names: str) -> Path:
    """Of 0.1 to 0.18 seconds, at two rates, higher the nearer to the front their name is."""
    soundfile = pytest.importorskip("soundfile")
    import numpy

    for place, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(5):
            rate, seconds = (8000, 16000)[number % 2], 0.1 + 0.02 * number
            sound = numpy.sin(2 * numpy.pi * 2000 / 10**place * numpy.arange(round(rate * seconds)) / rate)
            soundfile.write(folder / name / f"{number}.wav", sound, rate)
    return folder


def test_a_sound_is_normalized_without_the_silence_behind_it(ears: Path, tmp_path: Path) -> None:
    task = task_of_hub(ears, write_sounds(tmp_path / "sounds", "high", "low"))
    sounds = [task.train[index][0]["input_values"] for index in range(len(task.train))]
    assert {len(sound) for sound in sounds} == {round(0.18 * 16000)}
    ends = [int(sound.nonzero().max()) + 1 for sound in sounds]
    assert min(ends) < 0.15 * 16000
    for sound, end in zip(sounds, ends, strict=True):
        assert sound[:end].std() == pytest.approx(1, abs=0.02)


def test_the_split_of_a_sound_is_its_first_folder(ears: Path, tmp_path: Path) -> None:
    splits = write_sounds(tmp_path / "splits", "train/high", "train/low", "test/high", "test/low", "val/low")
    task = task_of_hub(ears, splits)
    assert [len(split) for split in (task.train, task.val, task.test)] == [10, 5, 10]
    for odd in ("test/speaker1/high", "high/speaker1", "low"):
        with pytest.raises(UsageError, match=f"/{odd}/0.wav is of no class for sure: put the sounds of each class"):
            task_of_hub(ears, write_sounds(tmp_path / odd.replace("/", "-"), "train/high", "train/low", odd))


def without(name: str) -> Any:
    def broken(folder: Path) -> Path:
        for path in folder.glob(name):
            path.unlink()
        return folder

    return broken


def as_generator(folder: Path) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["BertLMHeadModel"]}))
    return folder


@pytest.mark.parametrize(
    ("broken", "labels", "header", "said"),
    [
        (without("tokenizer*"), KNOWN, ["text", "label"], "there is no tokenizer in .*save_pretrained"),
        (without("config.json"), KNOWN, ["text", "label"], "has no config.json"),
        (without("*.safetensors"), KNOWN, ["text", "label"], "has no weights: it needs"),
        (as_generator, KNOWN, ["text", "label"], "BertLMHeadModel, and hf: takes classifiers of"),
        (Path, ["a", "b", "c"], ["text", "label"], r"have 3 classes \(a, b, c\) and the model has 2"),
        (Path, ["up", "down"], ["text", "label"], "called otherwise than the model's"),
        (Path, [0, 2], ["text", "label"], "have the label 2 and the model has 2 classes"),
        (Path, [0.5, 1], ["text", "label"], r"have the label 0\.5, which is no class"),
        (Path, KNOWN, ["text", "kind"], "have no column `label`: they have text, kind"),
        (Path, ["positive"], ["a", "b", "c", "label"], r"have 3 \(a, b, c\) beside label: leave out"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_said_in_one_line(
    save_text: SaveText, write_texts: WriteTexts, broken: Any, labels: list[Any], header: list[str], said: str
) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        task_of_hub(broken(save_text()), write_texts(labels, header))
    assert "\n" not in str(raised.value)


def test_a_name_that_is_not_in_the_cache_says_what_helps_without_a_network(write_texts: WriteTexts) -> None:
    with pytest.raises(UsageError, match=r"neither a folder nor in the cache .* run `hf download some/model`"):
        task_of_hub("some/model", write_texts())
    with pytest.raises(UsageError, match=r"there is no folder \./gone"):
        task_of_hub("./gone", write_texts())


def test_data_that_are_not_there_say_so(save_text: SaveText, tmp_path: Path) -> None:
    for gone in ("./gone", "gone.csv"):
        with pytest.raises(UsageError, match=f"there are no data {re.escape(gone)}"):
            task_of_hub(save_text(), gone)
    (tmp_path / "notes.doc").write_text("text")
    with pytest.raises(UsageError, match="in no format that is read"):
        task_of_hub(save_text(), tmp_path / "notes.doc")
