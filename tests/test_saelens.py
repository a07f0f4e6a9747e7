"""The same files through SAELens' loaders: another package's reading of where decoders lie.

Its loader of sparsify's files turns what is already the right way round, and is left out.
"""

import io
import json
from importlib.util import find_spec

import numpy as np
import pytest
from safetensors.numpy import save
from test_families import D, N, halves
from test_hub import process

from tests.hub_server import Hub, npz

pytestmark = [
    pytest.mark.skipif(find_spec("sae_lens") is None, reason="SAELens is not installed"),
    pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed"),
]


def pt(tensors: dict[str, np.ndarray]) -> bytes:
    import torch

    file = io.BytesIO()
    torch.save({key: torch.from_numpy(value.copy()) for key, value in tensors.items()}, file)
    return file.getvalue()


ROWS = halves(np.random.default_rng(7).standard_normal((N, D)).astype(np.float32))
LINEAR = {
    "encoder.weight": ROWS.copy(),
    "decoder.weight": np.ascontiguousarray(ROWS.T),
    "encoder.bias": np.zeros(N, np.float32),
    "decoder.bias": np.zeros(D, np.float32),
}
OWN = {
    "W_enc": np.ascontiguousarray(ROWS.T),
    "W_dec": ROWS,
    "b_enc": np.zeros(N, np.float32),
    "b_dec": np.zeros(D, np.float32),
    "threshold": np.ones(N, np.float32),
}
LLAMA = "Llama3_1-8B-Base-L5M-8x"
TRAINER = "sweep/resid_post_layer_3/trainer_10"

CASES = {
    "gemma_2": (
        "google/gemma-scope-2b-pt-res",
        "layer_3/width_16k/average_l0_59",
        {"layer_3/width_16k/average_l0_59/params.npz": lambda: npz(ROWS)},
    ),
    "gemma_3": (
        "google/gemma-scope-2-1b-pt",
        "resid_post/layer_7_width_16k_l0_small",
        {
            "resid_post/layer_7_width_16k_l0_small/params.safetensors": lambda: save(
                {key.lower(): value for key, value in OWN.items()}
            )
        },
    ),
    "llama_scope": (
        "fnlp/Llama3_1-8B-Base-LXM-8x",
        LLAMA,
        {
            f"{LLAMA}/checkpoints/final.safetensors": lambda: save(LINEAR),
            f"{LLAMA}/hyperparams.json": lambda: json.dumps(
                {
                    "d_model": D,
                    "d_sae": N,
                    "dataset_average_activation_norm": {"in": 1.0},
                    "jump_relu_threshold": 1.0,
                    "hook_point_in": "blocks.5.hook_mlp_out",
                }
            ).encode(),
        },
    ),
    "deepseek_r1": (
        "qresearch/DeepSeek-R1-Distill-Llama-8B-SAE-l19",
        "DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt",
        {"DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt": lambda: pt(LINEAR)},
    ),
    "goodfire": (
        "Goodfire/Llama-3.1-8B-Instruct-SAE-l19",
        "Llama-3.1-8B-Instruct-SAE-l19.pth",
        {
            "Llama-3.1-8B-Instruct-SAE-l19.pth": lambda: pt(
                {key.replace(".", "_linear."): value for key, value in LINEAR.items()}
            )
        },
    ),
    "qwen_scope": (
        "Qwen/SAE-Res-Qwen3-1.7B-Base-W32K-L0_50",
        "layer3.sae.pt",
        {
            "layer3.sae.pt": lambda: pt(
                {**OWN, "W_enc": OWN["W_enc"].T, "W_dec": np.ascontiguousarray(ROWS.T)}
            )
        },
    ),
    "dictionary_learning_1": (
        "canrager/lm_sae",
        TRAINER,
        {
            f"{TRAINER}/ae.pt": lambda: pt(LINEAR),
            f"{TRAINER}/config.json": lambda: json.dumps(
                {
                    "trainer": {
                        "layer": 3,
                        "lm_name": "EleutherAI/pythia-70m-deduped",
                        "dict_class": "AutoEncoder",
                        "dict_size": N,
                        "activation_dim": D,
                    },
                    "buffer": {"ctx_len": 128},
                }
            ).encode(),
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_saelens_finds_the_same_rows_in_the_same_place(tmp_path, name):
    repo, folder, files = CASES[name]
    code = f"""
import numpy as np, warnings
warnings.simplefilter("ignore")
from sae_lens.loading import pretrained_sae_loaders as loaders
load = loaders.NAMED_PRETRAINED_SAE_LOADERS[{name!r}]
state = load({repo!r}, {folder!r}, "cpu", False, None)[1]
theirs = state["W_dec"].float().numpy()
from geomsae.sources import Wanted, find
(offer,) = find({repo!r}, Wanted(l0="all"))
ours = np.concatenate(list(offer.open().blocks(5)))
print(ours.shape == theirs.shape and bool((ours == theirs).all()), ours.shape)
"""
    with Hub({repo: {path: make() for path, make in files.items()}}) as hub:
        done = process(hub.url, tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == f"True ({N}, {D})"
