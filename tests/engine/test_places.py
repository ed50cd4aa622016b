"""Where models are looked for, in which order, and what is refused there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from textjury.config.schema import ModelConfig
from textjury.engine import places as room
from textjury.engine.models import LocatedModel, locate
from textjury.errors import ModelError, TransientError
from textjury.fingerprint import bytes_digest, file_digest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "fedcba9876543210fedcba9876543210fedcba98"

Tiny = Callable[[str], Path]


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, and a hub that must not be called."""

    def refuse(**_: Any) -> str:
        raise AssertionError("the hub was called")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)


def nli(**settings: Any) -> ModelConfig:
    return ModelConfig.model_validate({"task": "nli", **settings})


def find(**settings: Any) -> LocatedModel:
    return locate("nli", nli(**settings), base=Path())


def cached(tmp_path: Path, source: Path, *, commit: str = COMMIT, ref: str | None = "main") -> Path:
    """A snapshot in the layout of the hub's cache: blobs, links to them, a ref."""
    root = tmp_path / "cache" / "models--acme--tiny"
    snapshot = root / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (root / "blobs").mkdir(exist_ok=True)
    for file in source.iterdir():
        blob = root / "blobs" / file_digest(file)
        shutil.copyfile(file, blob)
        (snapshot / file.name).symlink_to(blob)
    if ref:
        (root / "refs").mkdir(exist_ok=True)
        (root / "refs" / ref).write_text(commit, encoding="utf-8")
    return snapshot


def copied(tiny: Tiny, tmp_path: Path, name: str = "copy") -> Path:
    return Path(shutil.copytree(tiny("bert_nli"), tmp_path / name))


def edit_config(folder: Path, **more: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}), encoding="utf-8")


def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: Path) -> str:
    """An installed package that carries the model, and whose code must not run."""
    root = tmp_path / "site" / "carrier_pack"
    root.mkdir(parents=True)
    (root / "__init__.py").write_text("raise SystemExit('the package was executed')\n", encoding="utf-8")
    shutil.copytree(source, root / "model")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return "carrier_pack"


def test_locate_takes_the_local_folder_first_when_all_places_have_the_model(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(tmp_path, tiny("bert_nli"))
    name = package(monkeypatch, tmp_path, tiny("bert_nli"))
    found = find(path=tiny("bert_nli"), hub_id="acme/tiny", package=name)
    assert (found.place, found.folder) == ("folder", tiny("bert_nli"))


def test_locate_takes_a_relative_path_from_the_rulebooks_folder_when_given_one(tiny: Tiny, tmp_path: Path) -> None:
    copied(tiny, tmp_path, "model")
    assert locate("nli", nli(path="model"), base=tmp_path).folder == tmp_path / "model"


def test_locate_takes_the_hub_cache_before_the_package_when_there_is_no_folder(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = cached(tmp_path, tiny("bert_nli"))
    name = package(monkeypatch, tmp_path, tiny("bert_nli"))
    found = find(hub_id="acme/tiny", package=name)
    assert (found.place, found.folder) == ("hub cache", snapshot)


def test_locate_takes_the_package_without_running_it_when_nothing_else_is_there(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find(hub_id="acme/tiny", package=package(monkeypatch, tmp_path, tiny("bert_nli")))
    assert found.place == "package"
    assert found.folder.parent.name == "carrier_pack"


def test_locate_gives_the_same_fingerprint_when_only_the_place_differs(tiny: Tiny, tmp_path: Path, cpu: Any) -> None:
    cached(tmp_path, tiny("bert_nli"))
    here, there = find(path=tiny("bert_nli")), find(hub_id="acme/tiny")
    assert here.fingerprint(cpu) == there.fingerprint(cpu)


@pytest.mark.parametrize(("revision", "ref"), [(COMMIT, None), ("v1.0", "v1.0")])
def test_locate_finds_a_revision_in_the_cache_when_named_by_commit_or_tag(
    tiny: Tiny, tmp_path: Path, revision: str, ref: str | None
) -> None:
    cached(tmp_path, tiny("bart_nli"), commit=OTHER, ref="main")
    wanted = cached(tmp_path, tiny("bert_nli"), ref=ref)
    assert find(hub_id="acme/tiny", revision=revision).folder == wanted


def test_locate_looks_at_main_first_when_no_revision_is_named(tiny: Tiny, tmp_path: Path) -> None:
    cached(tmp_path, tiny("bart_nli"), commit=COMMIT, ref=None)
    main = cached(tmp_path, tiny("bert_nli"), commit=OTHER, ref="main")
    assert find(hub_id="acme/tiny").folder == main


def test_locate_goes_on_to_the_next_place_when_the_digest_is_another(tiny: Tiny, tmp_path: Path) -> None:
    wanted = cached(tmp_path, tiny("bert_nli"))
    digest = file_digest(tiny("bert_nli") / "model.safetensors")
    found = find(path=tiny("bart_nli"), hub_id="acme/tiny", sha256=digest)
    assert (found.place, found.folder, found.sha256) == ("hub cache", wanted, digest)


def test_locate_shows_both_digests_when_no_place_has_the_right_one(tiny: Tiny) -> None:
    digest = file_digest(tiny("bert_nli") / "model.safetensors")
    with pytest.raises(ModelError, match=rf"have digest {digest}; expected {'0' * 64}"):
        find(path=tiny("bert_nli"), sha256="0" * 64)


def test_locate_lists_what_is_wrong_with_every_place_when_none_has_the_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        find(path=tmp_path / "none", hub_id="acme/tiny", package="no_such_package")
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "no such folder" in lines[0]
    assert "'acme/tiny' is not in the local hub cache" in lines[1]
    assert "pip install no-such-package" in lines[2]


def test_locate_never_calls_the_hub_when_not_allowed() -> None:
    with pytest.raises(ModelError, match=r"set allow_hub = true with a pinned revision"):
        find(hub_id="acme/tiny", revision=COMMIT)


def test_locate_downloads_the_pinned_revision_when_allowed(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    def download(**arguments: Any) -> str:
        calls.append(arguments)
        return str(tiny("bert_nli"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    found = find(hub_id="acme/tiny", revision=COMMIT, allow_hub=True)
    assert found.place == "hub"
    (call,) = calls
    assert (call["repo_id"], call["revision"]) == ("acme/tiny", COMMIT)
    patterns = call["allow_patterns"]
    assert "model*.safetensors" in patterns
    assert not [p for p in patterns if p.endswith((".py", ".bin", "*"))]


def test_locate_leaves_the_hub_alone_when_the_cache_has_the_revision(tiny: Tiny, tmp_path: Path) -> None:
    cached(tmp_path, tiny("bert_nli"))
    assert find(hub_id="acme/tiny", revision=COMMIT, allow_hub=True).place == "hub cache"


def test_locate_asks_for_another_try_when_the_hub_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(**_: Any) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(TransientError, match=r"'acme/tiny' could not be downloaded \(OSError\); try again later"):
        find(hub_id="acme/tiny", revision=COMMIT, allow_hub=True)


def test_locate_refuses_for_good_when_the_hub_has_no_such_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(**_: Any) -> str:
        raise huggingface_hub.errors.HFValidationError("bad name")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", missing)
    with pytest.raises(ModelError, match="the hub has no 'acme/tiny' at"):
        find(hub_id="acme/tiny", revision=COMMIT, allow_hub=True)


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.ckpt"])
def test_locate_refuses_a_folder_when_it_has_only_pickled_weights(tiny: Tiny, tmp_path: Path, pickle: str) -> None:
    folder = copied(tiny, tmp_path)
    (folder / "model.safetensors").rename(folder / pickle)
    with pytest.raises(ModelError, match=r"only pickled or foreign weights; model\.safetensors.*save_pretrained"):
        find(path=folder)


def test_locate_refuses_a_folder_when_it_brings_its_own_code(tiny: Tiny, tmp_path: Path) -> None:
    folder = copied(tiny, tmp_path)
    edit_config(folder, auto_map={"AutoModel": "modeling.Evil"})
    with pytest.raises(ModelError, match=r"brings its own code \(auto_map in config.json\)"):
        find(path=folder)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("config.json", "no readable config.json"),
        ("model.safetensors", "has no weights"),
        ("tokenizer", "no tokenizer"),
    ],
)
def test_locate_refuses_a_folder_when_a_part_is_missing(tiny: Tiny, tmp_path: Path, file: str, message: str) -> None:
    folder = copied(tiny, tmp_path)
    for path in folder.glob(f"{file}*"):
        path.unlink()
    with pytest.raises(ModelError, match=message):
        find(path=folder)


def sharded(tiny: Tiny, tmp_path: Path) -> Path:
    """The same weights in two shards with their index."""
    folder = copied(tiny, tmp_path, "sharded")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    shards = {"model-00001-of-00002.safetensors": names[:5], "model-00002-of-00002.safetensors": names[5:]}
    for file, keys in shards.items():
        save_file({k: weights[k] for k in keys}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {k: file for file, keys in shards.items() for k in keys}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def test_locate_digests_the_shards_joined_when_the_weights_are_sharded(tiny: Tiny, tmp_path: Path) -> None:
    folder = sharded(tiny, tmp_path)
    joined = b"".join(f.read_bytes() for f in sorted(folder.glob("*.safetensors")))
    assert find(path=folder, sha256=bytes_digest(joined)).sha256 == bytes_digest(joined)


def test_locate_refuses_a_folder_when_a_shard_is_missing(tiny: Tiny, tmp_path: Path) -> None:
    folder = sharded(tiny, tmp_path)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match="has no weights"):
        find(path=folder)


def test_digest_is_computed_once_when_the_file_is_unchanged(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(tiny, tmp_path)
    calls: list[Path] = []
    monkeypatch.setattr(room, "file_digest", lambda path: calls.append(path) or file_digest(path))
    first = room.cached_digest(folder / "model.safetensors")
    assert room.cached_digest(folder / "model.safetensors") == first
    assert len(calls) == 1
    (folder / "model.safetensors").write_bytes(b"changed")
    assert room.cached_digest(folder / "model.safetensors") == bytes_digest(b"changed")


def test_config_digest_ignores_where_and_by_what_it_was_saved_when_nothing_else_differs(
    tiny: Tiny, tmp_path: Path
) -> None:
    folder = copied(tiny, tmp_path)
    before = room.config_digest(folder)
    edit_config(folder, transformers_version="0.0", _name_or_path="elsewhere")
    assert room.config_digest(folder) == before
    edit_config(folder, hidden_act="relu")
    assert room.config_digest(folder) != before
