"""Hardware profiles: the bundled ones, and one's own file with its mistakes."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from autocompress.errors import UsageError
from autocompress.machine.cores import cores
from autocompress.profile import HardwareProfile, installed_profiles, load_profile


def written(folder: Path, text: str) -> str:
    path = folder / "phone.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", sorted(installed_profiles()))
def test_bundled_profile_loads_under_its_own_name(name: str):
    profile = load_profile(name)
    assert profile.name == name
    assert profile.description


def test_the_default_profile_is_one_thread_one_example_p90():
    profile = load_profile("cpu")
    assert (profile.threads, profile.batch, profile.statistic, profile.percentile) == (1, 1, "p90", 90.0)


def test_file_is_read(tmp_path: Path):
    text = 'name = "phone"\nthreads = 4\nbatch = 8\nstatistic = "p95"\nprecisions = ["float32"]'
    profile = load_profile(written(tmp_path, text))
    assert (profile.name, profile.threads, profile.batch, profile.percentile) == ("phone", 4, 8, 95.0)
    assert profile.precisions == ("float32",)


def test_a_profile_may_count_every_moment(tmp_path: Path):
    assert not load_profile("cpu").as_it_is
    assert load_profile(written(tmp_path, 'name = "shared"\nmachine = "as it is"')).as_it_is
    with pytest.raises(UsageError, match="machine"):
        load_profile(written(tmp_path, 'name = "shared"\nmachine = "busy"'))


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(UsageError, match=r"unknown profile 'cpu-batch23': did you mean 'cpu-batch32'\?"):
        load_profile("cpu-batch23")


def test_name_like_nothing_lists_what_there_is():
    with pytest.raises(
        UsageError, match="unknown profile 'zzzz': known: cpu, cpu-2threads, cpu-all, cpu-batch32, cpu-cold, cuda"
    ):
        load_profile("zzzz")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ('name = "a"\nthread = 2', r"unknown field 'thread': did you mean 'threads'\?"),
        ('name = "a"\nthreads = "many"', "threads: .*integer.*'many'"),
        ('name = "a"\nthreads = 0', "threads: .*greater than or equal to 1"),
        ('name = "a"\ndevice = "http://board:8790"\ntoken_file = "t"', "others would read the token"),
        ('name = "a"\ndevice = "https://board:8790"', "an agent wants a token"),
        ('name = "a"\ndevice = "https://board:8790/x"\ntoken_file = "t"', "http://HOST:PORT"),
        ('name = "a"\ndevice = ["http://[::1]:1", "http://[::1]:1"]\ntoken_file = "t"', "each device once"),
        ('name = "a"\ndevice = "https://b:1"\ntoken_file = "t"\nruntime = "mnn"', "an agent runs files by onnxruntime"),
        ('name = "a"\ndevice = "command:x"\ncold = true', "cold is not told to a command"),
        ('name = "a"\nmax_memory_bytes = 0', "max_memory_bytes: .*greater than or equal to 1"),
        ('name = "a"\nstreams = 2\ncold = true', "several streams are timed on this machine, and not cold"),
        ('name = "a"\nopset = 12', "opset: .*greater than or equal to 13"),
        ('name = "a"\nbatch = 1.5', "batch: .*integer.*1.5"),
        ('name = "a"\nstatistic = "p80"', "statistic: .*'p90'.*'p80'"),
        ("threads = 2", "name: Field required"),
        ("name = ", "is not TOML"),
    ],
    ids=[
        "misspelt field",
        "word for a number",
        "no threads",
        "token in the clear",
        "no token",
        "page",
        "twice",
        "other runtime",
        "cold command",
        "no memory",
        "cold streams",
        "old opset",
        "half an example",
        "statistic",
        "nameless",
        "no TOML",
    ],
)
def test_mistake_names_file_field_and_value(text: str, cause: str, tmp_path: Path):
    with pytest.raises(UsageError, match=cause) as caught:
        load_profile(written(tmp_path, text))
    assert str(tmp_path / "phone.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"cannot read the profile .*none\.toml: No such file"):
        load_profile(str(tmp_path / "none.toml"))


@pytest.mark.parametrize("value", ["true", '"2"'])
def test_threads_of_another_type_are_refused(value: str, tmp_path: Path):
    with pytest.raises(UsageError, match="threads"):
        load_profile(written(tmp_path, f'name = "a"\nthreads = {value}'))


def test_profile_cannot_be_changed():
    with pytest.raises(ValidationError):
        load_profile("cpu").threads = 2


def test_sizes_of_axes_that_vary_are_read_and_recorded(tmp_path: Path):
    profile = load_profile(written(tmp_path, 'name = "long"\n[shapes]\nsequence = 128'))
    assert (profile.sizes, profile.weights) == ([{"sequence": 128}], [1])
    assert profile.model_dump(mode="json")["shapes"] == {"sequence": 128}
    assert HardwareProfile.model_validate(profile.model_dump(mode="json")) == profile
    assert "shapes" not in load_profile("cpu").model_dump(mode="json")
    with pytest.raises(UsageError, match="shapes"):
        load_profile(written(tmp_path, 'name = "long"\n[shapes]\nsequence = 0'))
    with pytest.raises(UsageError, match="weight is of one of several"):
        load_profile(written(tmp_path, 'name = "long"\n[shapes]\nsequence = 8\nweight = 2'))


SHAPES = """
name = "mixed"
[[shapes]]
sequence = 32
weight = 3
[[shapes]]
sequence = 128
weight = 0.5
"""


def test_several_shapes_have_a_weight_each(tmp_path: Path):
    profile = load_profile(written(tmp_path, SHAPES))
    assert (profile.sizes, profile.weights) == ([{"sequence": 32}, {"sequence": 128}], [3, 0.5])
    assert HardwareProfile.model_validate(profile.model_dump(mode="json")) == profile
    assert len({profile, load_profile("cpu")}) == 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("weight = 3", "weight = 0", "shapes.0.weight"),
        ("weight = 3", 'weight = "much"', "shapes.0.weight"),
        ("sequence = 32", "words = 32", "each of several gives the same sizes"),
        ("sequence = 32", "", "each of several gives the same sizes, one at least"),
        ("sequence = 32", "sequence = 0.5", "shapes.0.sequence"),
        ('name = "mixed"', 'name = "mixed"\ndevice = "command:./time"', "several shapes are not told to a command"),
    ],
    ids=["no weight", "no number", "other sizes", "none", "no size", "a command"],
)
def test_shapes_that_cannot_be_weighed_are_refused(tmp_path: Path, old: str, new: str, said: str):
    with pytest.raises(UsageError, match=said):
        load_profile(written(tmp_path, SHAPES.replace(old, new)))


def test_all_threads_are_as_many_as_there_are_cores(tmp_path: Path):
    assert load_profile("cpu-all").threads == cores()
    assert load_profile(written(tmp_path, 'name = "a"\nthreads = "all"')).model_dump()["threads"] == cores()


def test_the_runtimes_own_options_are_kept_as_they_are_written(tmp_path: Path):
    options = 'INFERENCE_PRECISION_HINT = "bf16", NUM_STREAMS = 2, PERF_COUNT = true'
    profile = load_profile(written(tmp_path, f'name = "a"\nruntime = "openvino"\noptions = {{ {options} }}'))
    assert profile.options == {"INFERENCE_PRECISION_HINT": "bf16", "NUM_STREAMS": 2, "PERF_COUNT": True}
    assert HardwareProfile.model_validate(profile.model_dump(mode="json")) == profile
    with pytest.raises(UsageError, match="options"):
        load_profile(written(tmp_path, 'name = "a"\noptions = { A = [1] }'))


def test_a_profile_without_them_is_recorded_as_it_was_before_there_were_options(tmp_path: Path):
    recorded = load_profile(written(tmp_path, 'name = "a"')).model_dump(mode="json")
    assert recorded.keys().isdisjoint({"provider", "options", "shapes"})
