"""The published families, as data. To add one, add an entry to `PUBLISHED`.

A family from outside is registered by `register_family`, or by an installed package that names it
under the entry point ``geomsae.families``.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from geomsae.sources.family import Family
from geomsae.sources.orientation import COLUMNS, LINEAR, ROWS

PUBLISHED: tuple[Family, ...] = (
    Family(
        name="Gemma Scope",
        repository=r"gemma-scope-(?P<size>2b|9b|27b)-(?P<variant>pt|it)-(?P<site>res|mlp|att|transcoders)",
        path=(
            r"(?:layer_(?P<layer>\d+)|(?P<embedding>embedding))"
            r"/width_(?P<width>\w+)/average_l0_(?P<l0_label>\d+)/params\.npz"
        ),
        decoder={"W_dec": ROWS, "w_dec": ROWS, "wdec": ROWS, "w_d": ROWS},
        labels={"model": "gemma-2-{size}"},
        by_path=True,
    ),
    Family(
        name="Gemma Scope 2",
        repository=r"gemma-scope-2-(?P<size>270m|1b|4b|12b|27b)-(?P<variant>pt|it)",
        path=(
            r"(?P<site>resid_post|mlp_out|attn_out|transcoder)(?P<tag_all>_all)?"
            r"/layer_(?P<layer>\d+)_width_(?P<width>[^_]+)_l0_(?P<l0_label>[^_/]+)"
            r"(?P<tag_affine>_affine)?(?P<tag_seed>_seed_\d+)?/params\.safetensors"
        ),
        decoder={"w_dec": ROWS},
        labels={"model": "gemma-3-{size}"},
        words={
            "site": {
                "resid_post": "res",
                "mlp_out": "mlp",
                "attn_out": "att",  # read before the output projection, as in Gemma Scope
                "transcoder": "transcoders",
            }
        },
        by_path=True,
    ),
    Family(
        name="Gemma Scope 2, cross-layer",
        repository=r"gemma-scope-2-(?P<size>270m|1b|4b|12b|27b)-(?P<variant>pt|it)",
        path=r"(?P<site>clt)\w*/.+\.safetensors",
        decoder={"w_dec": ROWS},
        labels={"model": "gemma-3-{size}"},
        refused="a feature of a cross-layer transcoder writes another direction into each layer",
    ),
    Family(
        name="Llama Scope",
        repository=r"Llama3_1-8B-Base-LX(?:R|M|A|TC)-\d+x",
        path=(
            r"Llama3_1-8B-Base-L(?P<layer>\d+)(?P<site>R|M|A|TC)-(?P<width>\d+x)"
            r"/checkpoints/final\.safetensors"
        ),
        decoder=LINEAR,
        labels={"model": "Llama-3.1-8B", "variant": "Base"},
        words={"site": {"R": "res", "M": "mlp", "A": "attn_out", "TC": "transcoders"}},
        config="{folder}/../hyperparams.json",
        stated={"n_features": "d_sae", "d_model": "d_model"},
        by_path=True,
    ),
    Family(
        name="Llama Scope R1-Distill",
        repository=r"Llama-Scope-R1-Distill",
        path=r"(?P<tag_mix>[^/]+)/L(?P<layer>\d+)R/sae_weights\.safetensors",
        decoder=LINEAR,
        labels={"model": "DeepSeek-R1-Distill-Llama-8B", "site": "res"},
        config="{folder}/config.json",
        stated={"n_features": "d_sae", "d_model": "d_model"},
    ),
    Family(
        name="sparsify",
        repository=r"sae-(?P<model>.+?)-(?P<width>\d+[xk])(?P<tag_kind>-.+)?",
        path=r"(?P<hook>[\w.]+)/sae\.safetensors",
        decoder={"W_dec": ROWS},
        config="{folder}/cfg.json",
        stated={"l0_label": "k", "n_features": "num_latents", "d_model": "d_in"},
        by_path=True,
    ),
    Family(
        name="SAELens",
        repository="",
        path=r"(?:(?P<tag_folder>.+)/)?sae_weights\.safetensors",
        decoder={"W_dec": ROWS},
        config="{folder}/cfg.json",
        stated={
            "model": "model_name, metadata.model_name",
            # Of a transcoder the directions lie where it writes.
            "hook": (
                "hook_name_out, metadata.hook_name_out, hook_name, metadata.hook_name, hook_point"
            ),
            "l0_label": "activation_fn_kwargs.k, k",
            "n_features": "d_sae",
            "d_model": "d_out, metadata.d_out, d_in",
        },
        words={"model": {"gpt2-small": "gpt2"}},
        by_path=True,
    ),
    Family(
        name="hook_z",
        repository=r"attn-saes-gpt2-small-all-layers",
        path=r"gpt2-small_L(?P<layer>\d+)_Hcat_z_.*?_ds(?P<width>\d+)_.*\.pt",
        decoder={"W_dec": ROWS},
        labels={"model": "gpt2", "site": "att"},
        by_path=True,
    ),
    Family(
        name="dictionary_learning",
        repository=r"(?:saebench|saes|lm_sae).*",
        path=(
            r"(?:(?P<tag_sweep>.+)/)?(?P<site>resid_post|mlp_out|attn_out)_layer_(?P<layer>\d+)"
            r"(?:_checkpoints)?/(?P<tag_trainer>trainer_\d+(?:_step_\d+)?)/ae\.pt"
        ),
        decoder={**LINEAR, "W_dec": ROWS},
        words={"site": {"resid_post": "res", "mlp_out": "mlp"}},
        config="{folder}/config.json",
        stated={
            "model": "trainer.lm_name",
            "l0_label": "trainer.k",
            "n_features": "trainer.dict_size",
            "d_model": "trainer.activation_dim",
        },
        by_path=True,
    ),
    Family(
        name="Goodfire",
        repository=r"(?P<model>Llama-3\.\d-\d+B)-(?P<variant>Instruct)-SAE-l(?P<layer>\d+)",
        path=r"[^/]+\.pth?",
        decoder=LINEAR,
        labels={"site": "res"},
    ),
    Family(
        name="DeepSeek R1",
        repository=r"(?P<model>DeepSeek-R1-Distill-Llama-8B)-SAE-l(?P<layer>\d+)",
        path=r"[^/]+\.pt",
        decoder=LINEAR,
        labels={"site": "res"},
    ),
    Family(
        name="Qwen-Scope",
        repository=(
            r"SAE-Res-(?P<model>Qwen3[\w.]*?(?:-[\w.]+?)+?)(?:-(?P<variant>Base))?"
            r"-W(?P<thousands>\d+)K-L0_(?P<l0_label>\d+)"
        ),
        path=r"layer(?P<layer>\d+)\.sae\.pt",
        decoder={"W_dec": COLUMNS},
        labels={"site": "res", "width": "{thousands}k"},
    ),
    Family(
        name="Qwen3 transcoders",
        repository=r"qwen3-(?P<size>[\d.]+)b-transcoders(?P<tag_kind>-\w+)?",
        path=r"layer_(?P<layer>\d+)\.safetensors",
        decoder={"W_dec": ROWS},
        labels={"model": "Qwen3-{size}B", "site": "transcoders"},
    ),
    Family(
        name="Temporal",
        repository=r"temporalSAEs",
        path=(
            r"(?P<model>[^/]+)/layer_(?P<layer>\d+)/(?P<tag_kind>temporal)"
            r"/latest_ckpt\.safetensors"
        ),
        decoder={"D": ROWS},
        labels={"site": "res"},
        words={"model": {"gemma-2-2B": "gemma-2-2b", "llama-3.1-8B": "Llama-3.1-8B"}},
        by_path=True,
    ),
    Family(
        name="cross-layer transcoders",
        repository=r"clt-.+",
        path=r"W_dec_(?P<layer>\d+)\.safetensors",
        decoder={},
        refused="a feature of a cross-layer transcoder writes another direction into each layer",
    ),
)
"""Every family that is read by its names. The first that a path fits is taken."""

_registered: list[Family] = []


def register_family(family: Family) -> None:
    r"""Let a family of one's own be read by its names, before any that geomsae knows.

    Parameters
    ----------
    family : Family
        How it is laid out. One of the same name is replaced.

    Examples
    --------
    >>> register_family(Family("mine", "my-saes", r"(?P<layer>\d+)\.npz", {"W": "columns"}))
    """
    _registered[:] = [family, *(other for other in _registered if other.name != family.name)]


def families() -> list[Family]:
    """Every family: those registered, those of installed packages, and the published ones."""
    return [*_registered, *_installed(), *PUBLISHED]


@cache
def _installed() -> tuple[Family, ...]:
    found = []
    for entry in entry_points(group="geomsae.families"):
        loaded = entry.load()
        found += [loaded] if isinstance(loaded, Family) else list(loaded)
    return tuple(found)
