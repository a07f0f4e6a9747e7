"""Every published family: a file made to its layout, read back with its values and its labels.

To add a family, add its entry to `geomsae.sources.families.PUBLISHED` and one case to `CASES`.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from test_selection import labels, table

from geomsae.errors import SourceError
from geomsae.sources import Wanted, find
from geomsae.sources.families import PUBLISHED, Family, families, register_family

N, D = 24, 6


def case(family, place, tensors, config="", beside=(), d_model=D, **expected):
    """One file: where it lies, its tensors by key with what they are, and the labels expected."""
    return pytest.param(
        place, tensors, config, dict(beside), d_model, expected, id=f"{family}-{d_model}"
    )


ROWS, COLUMNS = "rows", "columns"
CASES = [
    *(
        case(
            "Gemma Scope",
            "gemma-scope-2b-pt-res/layer_3/width_16k/average_l0_59/params.npz",
            {"W_dec": ROWS, "W_enc": COLUMNS},
            d_model=d_model,
            model="gemma-2-2b",
            variant="pt",
            site="res",
            layer=3,
            width="16k",
            l0=59.0,
        )
        for d_model in (D, N, 2 * N)
    ),
    case(
        "Gemma Scope",
        "gemma-scope-9b-it-res/embedding/width_4k/average_l0_21/params.npz",
        {"W_dec": ROWS},
        model="gemma-2-9b",
        variant="it",
        site="res",
        layer=-1,
        width="4k",
        l0=21.0,
    ),
    case(
        "Gemma Scope",
        "gemma-scope-2b-pt-transcoders/layer_1/width_16k/average_l0_9/params.npz",
        {"w_dec": ROWS, "w_enc": COLUMNS},
        model="gemma-2-2b",
        variant="pt",
        site="transcoders",
        layer=1,
        width="16k",
        l0=9.0,
    ),
    *(
        case(
            "Gemma Scope 2",
            "gemma-scope-2-4b-it/resid_post_all/layer_7_width_16k_l0_small_affine_seed_1/params.safetensors",
            {"w_dec": ROWS, "w_enc": COLUMNS},
            d_model=d_model,
            model="gemma-3-4b",
            variant="it",
            site="res",
            layer=7,
            width="16k",
            l0_label="small",
            l0=math.nan,
            tag="all_affine_seed_1",
        )
        for d_model in (D, N)
    ),
    case(
        "Llama Scope",
        "Llama3_1-8B-Base-LXM-8x/Llama3_1-8B-Base-L5M-8x/checkpoints/final.safetensors",
        {"decoder.weight": COLUMNS, "encoder.weight": ROWS},
        config="Llama3_1-8B-Base-LXM-8x/Llama3_1-8B-Base-L5M-8x/hyperparams.json",
        beside={"d_model": D, "d_sae": N},
        model="Llama-3.1-8B",
        variant="Base",
        site="mlp",
        layer=5,
        width="8x",
    ),
    case(
        "Llama Scope",
        "Llama3_1-8B-Base-LXR-32x/Llama3_1-8B-Base-L0R-32x/checkpoints/final.safetensors",
        {"decoder.weight": COLUMNS, "encoder.weight": ROWS},
        d_model=N,
        model="Llama-3.1-8B",
        variant="Base",
        site="res",
        layer=0,
        width="32x",
    ),
    case(
        "Llama Scope R1-Distill",
        "Llama-Scope-R1-Distill/400M-Slimpajama-400M-OpenR1/L9R/sae_weights.safetensors",
        {"decoder.weight": COLUMNS},
        model="DeepSeek-R1-Distill-Llama-8B",
        site="res",
        layer=9,
        tag="400M-Slimpajama-400M-OpenR1",
    ),
    case(
        "sparsify",
        "sae-llama-3-8b-32x/layers.10.mlp/sae.safetensors",
        {"W_dec": ROWS, "encoder.weight": ROWS},
        config="sae-llama-3-8b-32x/layers.10.mlp/cfg.json",
        beside={"d_in": D, "num_latents": N, "k": 192},
        model="llama-3-8b",
        site="mlp",
        layer=10,
        width="32x",
        l0=192.0,
    ),
    case(
        "sparsify",
        "sae-pythia-70m-32k/embed_tokens/sae.safetensors",
        {"W_dec": ROWS, "encoder.weight": ROWS},
        d_model=N,
        model="pythia-70m",
        site="res",
        layer=-1,
        width="32k",
    ),
    case(
        "SAELens",
        "GPT2-Small-Feature-Splitting-Experiment-Layer-8/blocks.8.hook_resid_pre_768/sae_weights.safetensors",
        {"W_dec": ROWS, "W_enc": COLUMNS},
        config="GPT2-Small-Feature-Splitting-Experiment-Layer-8/blocks.8.hook_resid_pre_768/cfg.json",
        beside={
            "model_name": "gpt2-small",
            "hook_name": "blocks.8.hook_resid_pre",
            "d_in": D,
            "d_sae": N,
        },
        model="gpt2",
        site="resid_pre",
        layer=8,
        tag="768",
    ),
    case(
        "SAELens",
        "some-saes/standard/blocks.0.hook_resid_post/sae_weights.safetensors",
        {"W_dec": ROWS, "W_enc": COLUMNS},
        config="some-saes/standard/blocks.0.hook_resid_post/cfg.json",
        beside={
            "metadata": {"model_name": "google/gemma-2-2b", "hook_name": "blocks.0.hook_resid_post"}
        },
        d_model=N,
        model="gemma-2-2b",
        site="res",
        layer=0,
        tag="standard_blocks.0.hook_resid_post",
    ),
    case(
        "OpenAI GPT-2, reformatted",
        "GPT2-Small-OAI-v5-32k-resid-post-SAEs/v5_32k_layer_0.pt/sae_weights.safetensors",
        {"W_dec": ROWS},
        config="GPT2-Small-OAI-v5-32k-resid-post-SAEs/v5_32k_layer_0.pt/cfg.json",
        beside={"model_name": "gpt2-small", "hook_name": "blocks.0.hook_resid_post"},
        model="gpt2",
        site="res",
        layer=0,
        tag="v5_32k_layer_0.pt",
    ),
    case(
        "hook_z",
        "attn-saes-gpt2-small-all-layers/gpt2-small_L0_Hcat_z_lr1.20e-03_l11.80e+00_ds24_bs4096_v9.pt",
        {"W_dec": ROWS, "W_enc": COLUMNS},
        model="gpt2",
        site="att",
        layer=0,
        width="24",
    ),
    *(
        case(
            f"dictionary_learning {kind}",
            "lm_sae/pythia70m_sweep/resid_post_layer_3/trainer_10/ae.pt",
            {key: lies},
            config="lm_sae/pythia70m_sweep/resid_post_layer_3/trainer_10/config.json",
            beside={
                "trainer": {
                    "dict_class": kind,
                    "lm_name": "EleutherAI/pythia-70m-deduped",
                    "dict_size": N,
                    "activation_dim": d_model,
                }
            },
            d_model=d_model,
            model="pythia-70m-deduped",
            site="res",
            layer=3,
            tag="pythia70m_sweep_trainer_10",
        )
        for kind, key, lies in (
            ("AutoEncoder", "decoder.weight", COLUMNS),
            ("AutoEncoderNew", "decoder.weight", COLUMNS),
            ("GatedAutoEncoder", "decoder.weight", COLUMNS),
            ("AutoEncoderTopK", "decoder.weight", COLUMNS),
            ("BatchTopKSAE", "decoder.weight", COLUMNS),
            ("JumpReluAutoEncoder", "W_dec", ROWS),
            ("MatryoshkaBatchTopKSAE", "W_dec", ROWS),
        )
        for d_model in (D, N)
    ),
    case(
        "dictionary_learning, a step",
        "saebench_gemma-2-2b_width-2pow12_date-1109/resid_post_layer_12_checkpoints/trainer_0_step_9/ae.pt",
        {"W_dec": ROWS},
        config="saebench_gemma-2-2b_width-2pow12_date-1109/resid_post_layer_12_checkpoints/trainer_0_step_9/config.json",
        beside={"trainer": {"lm_name": "google/gemma-2-2b", "k": 40}},
        model="gemma-2-2b",
        site="res",
        layer=12,
        l0=40.0,
        tag="trainer_0_step_9",
    ),
    case(
        "Goodfire",
        "Llama-3.1-8B-Instruct-SAE-l19/Llama-3.1-8B-Instruct-SAE-l19.pth",
        {"decoder_linear.weight": COLUMNS, "encoder_linear.weight": ROWS},
        d_model=N,
        model="Llama-3.1-8B",
        variant="Instruct",
        site="res",
        layer=19,
    ),
    case(
        "DeepSeek R1",
        "DeepSeek-R1-Distill-Llama-8B-SAE-l19/DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt",
        {"decoder.weight": COLUMNS, "encoder.weight": ROWS},
        model="DeepSeek-R1-Distill-Llama-8B",
        site="res",
        layer=19,
    ),
    *(
        case(
            "Qwen-Scope",
            f"SAE-Res-Qwen3.5-35B-A3B{base}-W128K-L0_50/layer3.sae.pt",
            {"W_dec": COLUMNS, "W_enc": ROWS},
            d_model=d_model,
            model="Qwen3.5-35B-A3B",
            variant=base.strip("-"),
            site="res",
            layer=3,
            width="128k",
            l0=50.0,
        )
        for base, d_model in (("-Base", D), ("", N))
    ),
    case(
        "Qwen3 transcoders",
        "qwen3-0.6b-transcoders-lowl0/layer_4.safetensors",
        {"W_dec": ROWS, "W_enc": ROWS},
        model="Qwen3-0.6B",
        site="transcoders",
        layer=4,
        tag="lowl0",
    ),
    case(
        "Temporal",
        "temporalSAEs/llama-3.1-8B/layer_15/temporal/latest_ckpt.safetensors",
        {"D": ROWS, "E": ROWS},
        model="Llama-3.1-8B",
        site="res",
        layer=15,
        tag="temporal",
    ),
]


def write(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """A file of the format that its suffix names."""
    path.parent.mkdir(parents=True)
    if path.suffix == ".npz":
        np.savez(path, **tensors)
    elif path.suffix == ".safetensors":
        save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, path)
    else:
        torch = pytest.importorskip("torch", reason="PyTorch reads .pt files, and is not installed")
        torch.save({key: torch.from_numpy(value.copy()) for key, value in tensors.items()}, path)


def halves(values: np.ndarray) -> np.ndarray:
    """What is left of float32 in bfloat16, which is its upper half."""
    return (values.view("<u4") & np.uint32(0xFFFF0000)).view("<f4")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("d_model", [D, N])
def test_bfloat16_is_read_exactly_and_turned(tmp_path, name, d_model):
    decoder = halves(np.random.default_rng(1).standard_normal((N, d_model)).astype(np.float32))
    turned = np.ascontiguousarray(decoder.T)
    folder = tmp_path / "DeepSeek-R1-Distill-Llama-8B-SAE-l19"
    folder.mkdir()
    if name.endswith(".pt"):
        torch = pytest.importorskip("torch", reason="PyTorch reads .pt files, and is not installed")
        values = torch.from_numpy(turned).to(torch.bfloat16)
        torch.save({"decoder.weight": values}, folder / name)
        (offer,) = find(str(folder))
    else:
        bits = (turned.view("<u4") >> 16).astype("<u2")
        header = {"dtype": "BF16", "shape": turned.shape, "data_offsets": [0, bits.nbytes]}
        text = json.dumps({"decoder.weight": header}).encode()
        (folder / name).write_bytes(len(text).to_bytes(8, "little") + text + bits.tobytes())
        (offer,) = find(str(folder), Wanted(model="m", transpose=True))
    opened = offer.open()
    assert opened.dtype == "bfloat16"
    assert np.concatenate(list(opened.blocks(7))).tobytes() == decoder.tobytes()


@pytest.mark.parametrize(("place", "tensors", "config", "beside", "d_model", "expected"), CASES)
def test_a_file_of_the_family_is_read_as_published(
    tmp_path, place, tensors, config, beside, d_model, expected
):
    decoder = np.random.default_rng(d_model).standard_normal((N, d_model)).astype(np.float32)
    keys = list(tensors)
    held = {keys[0]: decoder if tensors[keys[0]] == ROWS else decoder.T}
    held |= {key: decoder.T if tensors[key] == COLUMNS else decoder for key in keys[1:]}
    write(tmp_path / place, held)
    if config:
        (tmp_path / config).write_text(json.dumps(beside))
    repository = place.partition("/")[0]
    (offer,) = find(str(tmp_path / repository), Wanted(l0="all"))
    found = {name: getattr(offer.labels, name) for name in expected}
    assert str(found) == str(expected)
    opened = offer.open()
    assert opened.shape == (N, d_model)
    assert np.concatenate(list(opened.blocks(7))).tobytes() == decoder.tobytes()
    assert not opened.notes


def test_every_family_has_a_case():
    cased = {param.id.rsplit("-", 1)[0].split(",")[0] for param in CASES}
    cased = {name if not name.startswith("dictionary") else "dictionary_learning" for name in cased}
    assert {family.name for family in PUBLISHED if not family.refused} <= cased


def test_the_published_list_of_gemma_scope_2_has_its_labels_and_no_two_ids_meet():
    rows = table("gemma_scope_2_paths.csv")
    sites = {"resid_post": "res", "mlp_out": "mlp", "attn_out": "att", "transcoder": "transcoders"}
    ids = set()
    for row in rows:
        said = labels(row["repo"], row["path"])
        assert (said.model, said.variant) == (row["model"], row["variant"])
        assert (said.layer, said.width) == (int(row["layer"]), row["width"])
        assert said.l0_label == row["l0_label"]
        assert said.site == sites[row["folder"].removesuffix("_all")]
        parts = ("all" * row["folder"].endswith("_all"), "affine" * (row["affine"] == "1"))
        parts += (f"seed_{row['seed']}" * bool(row["seed"]),)
        assert said.tag == "_".join(filter(None, parts))
        ids.add(said.id)
    assert len(ids) == len(rows) == 2498


def test_every_decoder_that_neuronpedia_has_is_of_a_family():
    unknown = []
    for row in table("neuronpedia_ids.csv"):
        path = row["path"]
        endings = (
            "",
            "/params.npz",
            "/params.safetensors",
            "/sae_weights.safetensors",
            "/ae.pt",
            "/checkpoints/final.safetensors",
            "/latest_ckpt.safetensors",
        )
        known = [
            family.name
            for family in PUBLISHED
            if not family.repository or family.is_repository(row["repo"])
            for ending in endings
            if family.groups(row["repo"], f"{path}{ending}") is not None
        ]
        if not known:
            unknown.append((row["repo"], path))
    assert unknown == [] or {repo for repo, _ in unknown} == {"mntss/clt-gemma-2-2b-2.5M"}


def test_cross_layer_transcoders_are_refused_with_the_reason(tmp_path):
    place = tmp_path / "clt-gemma-2-2b-426k"
    write(place / "W_dec_3.safetensors", {"W_dec_3": np.ones((4, 2, 3), np.float32)})
    with pytest.raises(SourceError, match="writes another direction into each layer"):
        find(str(place))


def test_a_size_that_the_file_beside_denies_is_refused(tmp_path):
    place = tmp_path / "sae-m-8x" / "layers.1"
    write(place / "sae.safetensors", {"W_dec": np.ones((N, D), np.float32)})
    (place / "cfg.json").write_text(json.dumps({"d_in": D + 1}))
    (offer,) = find(str(place.parent))
    with pytest.raises(SourceError, match="d_model is 7"):
        offer.open()


def test_a_family_of_ones_own_is_read_without_touching_ours(tmp_path, monkeypatch):
    monkeypatch.setattr("geomsae.sources.families._registered", [])
    mine = Family(
        "mine", r"mine-(?P<model>\w+)", r"(?P<layer>\d+)\.npz", {"W": COLUMNS}, {"site": "res"}
    )
    rows = np.arange(N * N, dtype=np.float32).reshape(N, N)
    write(tmp_path / "mine-gpt" / "4.npz", {"W": rows, "other": rows})
    register_family(mine)
    assert families()[0] == mine
    (offer,) = find(str(tmp_path / "mine-gpt"))
    assert offer.labels.id == "gpt/res/layer_4"
    assert np.array_equal(next(offer.open().blocks(N)), rows.T)


def test_decoders_whose_names_say_the_same_are_told_apart_by_their_paths(tmp_path):
    for sweep in ("a", "b"):
        path = tmp_path / "some-saes" / sweep / "sae_weights.safetensors"
        write(path, {"W_dec": np.ones((4, 3), np.float32)})
    offers = find(str(tmp_path / "some-saes"), Wanted(model="m"))
    assert [offer.labels.id for offer in offers] == ["m/a", "m/b"]
