"""What `--model` takes, and that our small tables say what open_clip's large ones say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
from open_clip.pretrained import get_pretrained_cfg, get_pretrained_url

from clipsearch.encoders.clip.architectures import canonical_config, openai_config
from clipsearch.encoders.clip.hub import known_models
from clipsearch.encoders.clip.pairs import pixels_of, published_pair
from clipsearch.encoders.known import ROWS, Row
from clipsearch.encoders.specs import DEFAULT_SPEC, OPENAI_MODELS, parse_spec
from clipsearch.errors import UsageError

PAIRS = [row for row in ROWS if row.repo]


@pytest.mark.parametrize(
    ("spec", "kind", "name"),
    [
        ("builtin", "builtin", "builtin"),
        ("default", "pair", DEFAULT_SPEC),
        ("ViT-B/32", "pair", "ViT-B/32"),
        ("RN50", "pair", "RN50"),
        ("ViT-L/14@336px", "pair", "ViT-L/14@336px"),
        ("ViT-B-16-SigLIP2/webli", "pair", "ViT-B-16-SigLIP2/webli"),
        ("ViT-B-32/laion2b-s34b-b79k", "pair", "ViT-B-32/laion2b_s34b_b79k"),
        ("hf-hub:org/name", "hub", "hf-hub:org/name"),
        ("/models/any name", "file", "/models/any name"),
        ("/models/a.pt", "file", "/models/a.pt"),
    ],
)
def test_a_spec_is_read(spec: str, kind: str, name: str) -> None:
    parsed = parse_spec(spec)
    assert (parsed.kind, parsed.name) == (kind, name)


def test_a_file_is_recorded_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert parse_spec("./ViT-B/32").path == tmp_path / "ViT-B" / "32"
    assert parse_spec("model.safetensors").path == tmp_path / "model.safetensors"
    assert parse_spec("folder/Model.PT").path == tmp_path / "folder" / "Model.PT"
    assert parse_spec("~/model").path == tmp_path / "home" / "model"


def test_as_a_text_a_path_stays_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").touch()
    for spec in ("./ViT-B/32", "model.safetensors", "~/model", "~root/model.pt+int8"):
        assert parse_spec(spec, as_text=True).name == str(Path(spec)) != parse_spec(spec).name
    for spec in ("default", "ViT-B/32", "ViT-B-32/Laion2B-s34b", "builtin", "hf-hub:a/b", "default+int8"):
        assert parse_spec(spec, as_text=True) == parse_spec(spec)
    with pytest.raises(UsageError) as error:
        parse_spec("there", as_text=True)
    assert "file of that name" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "advice"),
    [
        ("ViT-B/33", None),
        ("", "clipsearch models"),
        ("RN5", "did you mean RN50"),
        ("vit-b-32", "did you mean ViT-B/32"),
        ("hf-hub:name", "ORG/NAME"),
        ("a/b/c", "clipsearch models"),
        ("weights", "write ./weights"),
    ],
)
def test_what_means_nothing_is_refused_with_advice(
    spec: str, advice: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").touch()
    if advice is None:  # has the form of a pair: only open_clip's table can tell
        parsed = parse_spec(spec)
        with pytest.raises(UsageError, match="unknown open_clip architecture ViT-B"):
            published_pair(parsed.arch or "", parsed.tag or "")
        return
    with pytest.raises(UsageError, match=advice):
        parse_spec(spec)


@pytest.mark.parametrize("row", PAIRS, ids=[row.spec for row in PAIRS])
def test_the_table_of_known_models_agrees_with_open_clip(row: Row) -> None:
    parsed = parse_spec(row.spec)
    pair = published_pair(parsed.arch or "", parsed.tag or "")  # which also refuses an activation that does not fit
    config = open_clip.get_model_config(parsed.arch)
    assert pair.repo == row.repo
    assert pair.companions == ((row.companion,) if row.companion else ())
    assert config["embed_dim"] == row.dim
    assert config["vision_cfg"]["image_size"] == row.pixels


@pytest.mark.parametrize("name", OPENAI_MODELS)
def test_openai_names_carry_the_published_archive_and_quickgelu(name: str) -> None:
    model = OPENAI_MODELS[name]
    assert get_pretrained_url(model.arch, "openai").split("/")[-2] == model.sha256
    assert open_clip.get_model_config(model.arch)["quick_gelu"] is True
    assert get_pretrained_cfg(model.arch, "openai")["quick_gelu"] is True


@pytest.mark.parametrize("name", OPENAI_MODELS)
def test_a_checkpoint_of_openai_says_which_of_its_models_it_is(name: str) -> None:
    arch = OPENAI_MODELS[name].arch
    shapes = open_clip.create_model(arch, device="meta", load_weights=False).state_dict()
    assert canonical_config(openai_config(shapes)) == canonical_config(open_clip.get_model_config(arch))


def test_every_openai_model_of_open_clip_has_its_name_here() -> None:
    theirs = {name for name in open_clip.list_openai_models() if name.endswith("-quickgelu")}
    assert {model.arch for model in OPENAI_MODELS.values()} == theirs


def test_another_activation_than_the_trained_one_is_refused() -> None:
    with pytest.raises(UsageError, match=r"trained with QuickGELU; its name is ViT-B/32 or ViT-B-32-quickgelu/openai"):
        published_pair("ViT-B-32", "openai")
    with pytest.raises(UsageError, match=r"its name is ViT-B-16-quickgelu/dfn2b"):
        published_pair("ViT-B-16", "dfn2b")
    with pytest.raises(UsageError, match=r"has no tag laion2b_s34b_b79k"):
        published_pair("ViT-B-32-quickgelu", "laion2b_s34b_b79k")


def test_an_architecture_knows_its_pixels_where_its_checkpoints_agree() -> None:
    assert pixels_of("ViT-B-16-SigLIP2")["resize_mode"] == "squash"
    assert pixels_of("ViT-B-16-SigLIP2")["mean"] == (0.5, 0.5, 0.5)
    assert pixels_of("ViT-L-14") == {}, "one of its checkpoints wants other means than the rest"


def test_listing_models_imports_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys; from clipsearch.encoders.clip.hub import known_models; models = known_models();"
        "heavy = {'torch', 'open_clip', 'numpy', 'huggingface_hub', 'transformers', 'PIL'} & set(sys.modules);"
        "print(len(models), sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{len(ROWS)} []"


def test_known_models_say_whether_they_are_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert [model.spec for model in known_models() if model.cached] == ["builtin"]
    folder = tmp_path / f"models--{ROWS[1].repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / "open_clip_model.safetensors").touch()
    assert [model.spec for model in known_models() if model.cached] == ["builtin", DEFAULT_SPEC]
