"""A config says everything that is wrong with it at once, and comes back from its own YAML unchanged."""

from __future__ import annotations

import pytest

from fl_core.config import load_config, to_plain, to_yaml
from fl_core.errors import ConfigError
from fl_core.export.registry import FormatSection

GOOD = "run: {name: q}\ndata: {name: smartwatch}\nmodel: {name: imu_cnn}\n"


def write(folder, text, name="config.yaml"):
    path = folder / name
    path.write_text(text)
    return path


def test_every_problem_is_named_at_once(tmp_path):
    path = write(
        tmp_path,
        "run: {name: q, rounds: 0}\ndata: {nam: smartwatch}\nmodel: {name: m}\nquant: {weight_bits: 80, grid: x}\n"
        "privacy: {epsilon: much}\nclients: {optimizer: {learning_rat: 1}}\n",
    )
    with pytest.raises(ConfigError) as caught:
        load_config(path, ["clients.batch_size=0"])
    text = str(caught.value)
    for expected in (
        "run.rounds: expected at least 1, got 0",
        "data.nam: unknown key; did you mean data.name?",
        "clients.optimizer.learning_rat: unknown key; did you mean clients.optimizer.learning_rate?",
        "quant.grid: expected 'asymmetric' or 'symmetric', got 'x'",
        "privacy.epsilon",
        "clients.batch_size: expected at least 1, got 0",
    ):
        assert expected in text


def test_a_wrong_value_in_a_section_names_its_range(tmp_path):
    with pytest.raises(ConfigError, match="weight_bits must be 2 to 8, got 80"):
        load_config(write(tmp_path, GOOD + "quant: {weight_bits: 80}\n"))


def test_overrides_win_over_file_and_file_over_base(tmp_path):
    write(tmp_path, GOOD + "clients: {batch_size: 8, local_epochs: 3}\n", "base.yaml")
    path = write(tmp_path, "extends: base.yaml\nclients: {batch_size: 16}\nrun: {seed: 4}\n")
    config = load_config(path, ["run.seed=9", "privacy.epsilon=2"])
    assert (config.clients.batch_size, config.clients.local_epochs, config.run.seed) == (16, 3, 9)
    assert config.privacy is not None
    assert config.privacy.epsilon == 2.0


@pytest.mark.parametrize(
    ("overrides", "args"),
    [
        ([], {"width": 8, "depth": 2}),
        (["model.args.width=4"], {"width": 4, "depth": 2}),
        (["model.args={}"], {}),
        (["model.args={size: 3}"], {"size": 3}),
        (["model.args={}", "model.args.width=4"], {"width": 4}),
        (["model={args: {size: 3}}"], {"width": 8, "depth": 2, "size": 3}),
    ],
)
def test_a_mapping_of_ones_own_is_replaced_and_a_section_is_merged(tmp_path, overrides, args):
    text = "{run: {name: q}, data: {name: d}, model: {factory: 'm:net', args: {width: 8, depth: 2}}}"
    config = load_config(write(tmp_path, text), overrides)
    assert (config.model.factory, config.model.args) == ("m:net", args)


@pytest.mark.parametrize(
    ("above", "args"),
    [
        ("{factory: 'm:other', args: {size: 3}}", {"size": 3}),
        ("{factory: 'm:other', args: {}}", {}),
        ("{args: {size: 3}}", {"width": 8, "size": 3}),
        ("{factory: 'm:other'}", {"width": 8}),
    ],
)
def test_a_file_that_names_another_callable_with_args_gets_none_of_the_bases(tmp_path, above, args):
    text = "{run: {name: q}, data: {name: d}, model: {factory: 'm:net', args: {width: 8}}}"
    write(tmp_path, text, "base.yaml")
    config = load_config(write(tmp_path, f"{{extends: base.yaml, model: {above}}}"))
    assert config.model.args == args


def test_a_base_that_goes_in_a_circle_is_named(tmp_path):
    write(tmp_path, "extends: b.yaml\n", "a.yaml")
    with pytest.raises(ConfigError, match="circle"):
        load_config(write(tmp_path, "extends: a.yaml\n", "b.yaml"))


@pytest.mark.parametrize(
    ("addition", "says"),
    [
        ("privacy: {epsilon: 8}\nquant: {ranges: ema}\n", "quant.ranges"),
        ("quant: {ranges: dp_histogram}\n", "quant.ranges"),
        ("clients: {sample_rate: 0.5}\n", "clients.sample_rate"),
        ("task: {name: a, factory: 'b:c'}\n", "task"),
    ],
)
def test_what_cannot_be_together_is_refused(tmp_path, addition, says):
    with pytest.raises(ConfigError, match=says):
        load_config(write(tmp_path, GOOD + addition))


def test_a_base_that_is_not_there_is_named_with_the_file_that_wants_it(tmp_path):
    path = write(tmp_path, "extends: nope.yaml\n")
    with pytest.raises(ConfigError, match=r"^config\.yaml: extends: expected a file, got '.*nope\.yaml', which"):
        load_config(path)
    with pytest.raises(ConfigError, match=r"^config: expected a file, got '.*', which is a folder$"):
        load_config(tmp_path)


def test_a_key_of_a_section_is_found_where_it_was_written_without_it(tmp_path):
    with pytest.raises(ConfigError, match=r"^rounds: unknown key; did you mean run\.rounds\?$"):
        load_config(write(tmp_path, GOOD), ["rounds=3"])
    with pytest.raises(ConfigError, match=r"did you mean data\.factory or model\.factory or task\.factory"):
        load_config(write(tmp_path, GOOD), ["factory=a:b"])


@pytest.mark.parametrize(("text", "says"), [("- a\n", "sections"), ("run: {", "YAML"), (None, "does not exist")])
def test_what_is_no_config_is_named(tmp_path, text, says):
    path = tmp_path / "x.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        load_config(path)


def test_yaml_of_a_config_reads_back_as_the_same_config(tmp_path):
    overrides = ["privacy.epsilon=8", "quant.per_layer.head=3", "data.args.held_out=[1,2]"]
    config = load_config(write(tmp_path, GOOD), overrides)
    assert load_config(write(tmp_path, to_yaml(config), "again.yaml")) == config


def test_a_format_is_a_name_or_a_name_with_args_and_is_written_as_it_was_stated(tmp_path):
    config = load_config(write(tmp_path, GOOD + "export: {formats: [onnx, {name: other, args: {bits: 4}}]}\n"))
    assert config.export.formats == ("onnx", FormatSection("other", {"bits": 4}))
    assert to_plain(config.export)["formats"] == ["onnx", {"name": "other", "args": {"bits": 4}}]
    assert load_config(write(tmp_path, to_yaml(config), "again.yaml")) == config


@pytest.mark.parametrize(
    ("formats", "says"),
    [
        ("[{name: onnx, arg: {}}]", "export.formats.0.arg: unknown key; did you mean export.formats.0.args?"),
        ("[onnx, {args: {}}]", "export.formats.1.name: expected a value, got none"),
        ("[3]", "export.formats.0: expected text, got 3, which is a number in YAML; put it in quotes"),
        ("[onnx, {name: onnx}]", "export.formats: expected no format twice"),
    ],
)
def test_a_format_of_another_form_is_named(tmp_path, formats, says):
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, f"{GOOD}export: {{formats: {formats}}}\n"))
    assert says in str(caught.value)
