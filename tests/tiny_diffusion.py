"""Tiny pipelines of the layouts of Stable Diffusion 1 and XL, with seeded random weights: seconds to make and run.

64 px pictures, latents 4 × 16 × 16, cross-attention at 16, 8 and 4. The networks are random, so what they paint is
noise; their text conditioning is made strong enough to measure.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

SIZE, GRID, CONTEXT, WIDTH = 64, 16, 16, 32
WORDS = (
    *("a", "an", "the", "on", "in", "with", "of", "and", "next", "to", "near", "photo", "picture"),
    *("dog", "cat", "horse", "bird", "fish", "zebra", "man", "woman", "car", "boat", "bicycle", "skateboard"),
    *("balloon", "tree", "house", "beach", "snow", "forest", "street", "field", "sky"),
    *("red", "blue", "green", "yellow", "white", "black", "big", "small"),
    *("riding", "holding", "sitting", "standing"),
)


def tokenizer(whole: bool = True, context: int = CONTEXT) -> Any:
    """A ``PreTrainedTokenizerFast``: whole words, others unknown; or word pieces, where any word has tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*letters, *(f"##{c}" for c in letters)] if not whole else []
    tokens = ["<pad>", "<start>", "<unk>", *dict.fromkeys([*WORDS, *pieces]), "<end>"]
    numbers = {token: number for number, token in enumerate(tokens)}
    model = models.WordLevel(numbers, "<unk>") if whole else models.WordPiece(numbers, unk_token="<unk>")
    built = Tokenizer(model)
    built.normalizer = normalizers.Lowercase()
    built.pre_tokenizer = pre_tokenizers.Whitespace()
    built.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", numbers["<start>"]), ("<end>", numbers["<end>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=built,
        model_max_length=context,
        pad_token="<pad>",
        bos_token="<start>",
        eos_token="<end>",
        unk_token="<unk>",
    )


def vae(seed: int = 0) -> Any:
    """An autoencoder with f = 4."""
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    made = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 16, 16),
        norm_num_groups=8,
        latent_channels=4,
        sample_size=SIZE,
        scaling_factor=1.0,
    )
    return made.eval()


def text_encoder(seed: int, vocabulary: int, layers: int = 0, pooled: bool = False, context: int = CONTEXT) -> Any:
    """CLIP's text model of ``layers`` layers; 0 layers are embeddings alone."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=context,
        projection_dim=WIDTH,
        bos_token_id=1,
        eos_token_id=vocabulary - 1,
        pad_token_id=0,
    )
    return (CLIPTextModelWithProjection if pooled else CLIPTextModel)(config).eval()


def unet(seed: int, states: int = WIDTH, **more: Any) -> Any:
    """Cross-attention at every resolution, alone (without self-attention) at the finest."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(seed)
    made = UNet2DConditionModel(
        sample_size=GRID,
        block_out_channels=(16, 16, 32),
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        only_cross_attention=(True, False, False),
        layers_per_block=1,
        attention_head_dim=8,
        norm_num_groups=8,
        cross_attention_dim=states,
        **more,
    )
    with torch.no_grad():  # random attention hardly listens to its text: let it
        for name, parameter in made.named_parameters():
            if "attn2.to_v" in name or "attn2.to_out.0.weight" in name:
                parameter.mul_(4)
    return made.eval()


def scheduler(prediction: str = "epsilon") -> Any:
    """The schedule of Stable Diffusion."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,
    )


def save_tiny(folder: Path, seed: int = 0, prediction: str = "epsilon", whole: bool = True) -> Path:
    """Write a pipeline of the layout of Stable Diffusion 1."""
    from diffusers import StableDiffusionPipeline

    words = tokenizer(whole)
    StableDiffusionPipeline(
        vae=vae(seed),
        text_encoder=text_encoder(seed + 1, len(words)),
        tokenizer=words,
        unet=unet(seed + 2),
        scheduler=scheduler(prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def save_tiny_xl(folder: Path, seed: int = 0) -> Path:
    """Write a pipeline of the layout of Stable Diffusion XL: two text encoders and added conditions."""
    from diffusers import StableDiffusionXLPipeline

    words = tokenizer(whole=False)
    added = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + WIDTH,
    }
    StableDiffusionXLPipeline(
        vae=vae(seed),
        text_encoder=text_encoder(seed + 1, len(words), layers=2),
        text_encoder_2=text_encoder(seed + 3, len(words), layers=2, pooled=True),
        tokenizer=words,
        tokenizer_2=words,
        unet=unet(seed + 2, 2 * WIDTH, **added),
        scheduler=scheduler(),
        add_watermarker=False,
    ).save_pretrained(folder)
    return folder


@cache
def loaded(folder: Path) -> Any:
    """The model of a folder in float32 on the CPU, loaded once."""
    from simat.generators.model import load
    from simat.generators.options import ModelOptions

    return load(ModelOptions(model=str(folder), device="cpu", dtype="float32"))


def picture(seed: int = 0, size: int = SIZE) -> Image.Image:
    """A smooth picture."""
    noise = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC)
