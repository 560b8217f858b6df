"""The configuration: precedence, sources, refusals, and the documented sample."""

import tomllib
from pathlib import Path

import pytest

from dicom_node.config import Config
from dicom_node.errors import ConfigError
from dicom_node.settings import load

PEER = "ae_title = 'X'\nhost = 'h'\nport = 104"


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "similis.toml"
    file.write_text("[dicom]\nport = 1\nquery_port = 2\nae_title = 'FILE'\n")
    environment = {"SIMILIS_DICOM__PORT": "3", "SIMILIS_DICOM__QUERY_PORT": "4"}

    loaded = load(file, flags={"dicom.port": 5, "dicom.host": None}, environment=environment)

    dicom = loaded.config.dicom
    assert (dicom.port, dicom.query_port, dicom.ae_title) == (5, 4, "FILE")
    sources = {setting.key: setting.source for setting in loaded.settings()}
    assert sources["dicom.port"] == "flag"
    assert sources["dicom.query_port"] == "environment"
    assert sources["dicom.ae_title"] == str(file)
    assert sources["dicom.host"] == "default"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("surprise = 1", "surprise"),
        ("[dicom]\nprot = 104", "dicom.prot"),
        ("[dicom]\nport = 'many'", "dicom.port"),
        ("[dicom]\nport = 70000", "dicom.port"),
        ("[dicom]\nae_title = 'SEVENTEEN LETTERS'", "dicom.ae_title"),
        ("[answer]\nk = 0", "answer.k"),
        ("[dicom]\nae_title = '  '", "dicom.ae_title"),
        ("[dicom]\nfind_ae_title = 'ONE'\nqr_ae_title = ' ONE'", "dicom.qr_ae_title"),
        ("[dicom]\nfind_ae_title = 'SIMILIS_QR'", "dicom.qr_ae_title"),
        ("[dicom]\nqr_ae_title = 'SIMILIS_FIND'", "dicom.qr_ae_title"),
        ("[destinations.pacs]\nae_title = 'X'\nhost = 'h'", "destinations.pacs.port"),
        (f"[destinations.a]\n{PEER}\n[destinations.b]\n{PEER}", "destinations"),
        (f"[destinations.a]\n{PEER}\n[peers.b]\n{PEER.replace('X', ' X ')}", "peers"),
    ],
)
def test_a_wrong_key_or_value_is_refused_by_name_and_source(
    tmp_path: Path, text: str, key: str
) -> None:
    file = tmp_path / "similis.toml"
    file.write_text(text)

    with pytest.raises(ConfigError) as refused:
        load(file, environment={})

    assert refused.value.key == key
    assert str(file) in str(refused.value) or refused.value.source == "default"


def test_spaces_around_an_ae_title_say_nothing_and_two_alike_are_named(tmp_path: Path) -> None:
    file = tmp_path / "similis.toml"
    file.write_text(f"[dicom]\nae_title = ' MY NODE '\n[peers.a]\n{PEER.replace('X', 'X ')}")

    config = load(file, environment={}).config

    assert (config.dicom.ae_title, config.peers["a"].ae_title) == ("MY NODE", "X")
    file.write_text(f"[destinations.a]\n{PEER}\n[peers.b]\n{PEER}")
    with pytest.raises(
        ConfigError, match=r"destinations\.a and peers\.b have the same ae_title, X"
    ):
        load(file, environment={})


def test_an_unknown_environment_variable_is_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        load(None, environment={"SIMILIS_DICOM__PROT": "104"})

    assert (refused.value.key, refused.value.source) == ("dicom.prot", "environment")


@pytest.mark.parametrize("text", ["port = = 1", "\x00"])
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "similis.toml"
    file.write_text(text)

    with pytest.raises(ConfigError, match="not TOML"):
        load(file, environment={})


def test_a_missing_file_is_refused_when_it_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "nowhere.toml", environment={})


def test_lists_and_modalities_can_come_from_the_environment() -> None:
    environment = {
        "SIMILIS_DICOM__CALLING_AE_TITLES": "PACS, MODALITY 1",
        "SIMILIS_LIFECYCLE__QUIET_S_BY_MODALITY__CT": "7",
    }

    config = load(None, environment=environment).config

    assert config.dicom.calling_ae_titles == ("PACS", "MODALITY 1")
    assert config.lifecycle.quiet_s_by_modality["CT"] == 7


@pytest.mark.parametrize("name", ["US", "us"])
def test_a_modality_with_a_quiet_time_of_its_own_leaves_the_others_theirs(
    tmp_path: Path, name: str
) -> None:
    file = tmp_path / "similis.toml"
    file.write_text(f"[lifecycle.quiet_s_by_modality]\nCT = 7\n{name} = 8\n")

    loaded = load(file, environment={"SIMILIS_LIFECYCLE__QUIET_S_BY_MODALITY__MG": "9"})

    shipped = Config().lifecycle.quiet_s_by_modality
    given = {"CT": 7, "US": 8, "MG": 9}
    assert loaded.config.lifecycle.quiet_s_by_modality == shipped | given
    sources = {setting.key: setting.source for setting in loaded.settings()}
    of = "lifecycle.quiet_s_by_modality"
    assert (sources[f"{of}.CT"], sources[f"{of}.MG"]) == (str(file), "environment")
    assert sources[f"{of}.XA"] == "default"


def test_all_that_is_wrong_is_named_in_the_words_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "similis.toml"
    file.write_text("surprise = 1\n[destinations.x]\nae_title = 'X'\nport = 0\n")

    with pytest.raises(ConfigError) as refused:
        load(file, environment={})

    assert sorted(str(refused.value).split("; ")) == [
        f"destinations.x.host (from {file}): is missing",
        f"destinations.x.port (from {file}): Input should be greater than or equal to 1",
        f"surprise (from {file}): unknown key",
    ]


def test_the_documented_sample_holds_every_setting_with_its_default() -> None:
    sample = tomllib.loads(Path("deploy/similis.toml").read_text())
    sample.setdefault("destinations", {})
    sample.setdefault("peers", {})

    assert sample == Config().model_dump(mode="json")
