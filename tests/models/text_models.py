"""Tiny random text encoders and a captioner of the real classes, with generated tokenizers."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz,."


def clip_tokenizer() -> CLIPTokenizer:
    words = [*LETTERS, *(c + "</w>" for c in LETTERS), "ab</w>", "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=[("a", "b</w>")], model_max_length=77)


def t5_tokenizer() -> T5Tokenizer:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0), *((c, -3.0) for c in LETTERS)]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def clip_config(width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=64,
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        projection_dim=width - 4,
        bos_token_id=57,
        eos_token_id=58,
        pad_token_id=58,
    )


def write_sd3_text(folder: Path) -> Path:
    """Tokenizers and text encoders of a tiny SD3, in diffusers' layout."""
    torch.manual_seed(0)
    for number, width in (("", 16), ("_2", 24)):
        clip_tokenizer().save_pretrained(folder / f"tokenizer{number}")
        CLIPTextModelWithProjection(clip_config(width)).save_pretrained(folder / f"text_encoder{number}")
    t5_tokenizer().save_pretrained(folder / "tokenizer_3")
    config = T5Config(vocab_size=64, d_model=48, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    T5EncoderModel(config).save_pretrained(folder / "text_encoder_3")
    return folder


def write_sd2_text(folder: Path) -> Path:
    """Tokenizer and text encoder of a tiny SD2."""
    torch.manual_seed(0)
    clip_tokenizer().save_pretrained(folder / "tokenizer")
    CLIPTextModel(clip_config(32)).save_pretrained(folder / "text_encoder")
    return folder


def write_flux2_text(folder: Path, layers: int = 28) -> Path:
    """Tokenizer and text encoder of a tiny FLUX.2 klein. Spaces are Ġ in a vocabulary of bytes."""
    torch.manual_seed(0)
    words = [*LETTERS, "Ġ", "<", ">", "/", "ab", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Qwen2Tokenizer(
        vocab={w: i for i, w in enumerate(words)},
        merges=[("a", "b")],
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>", "<|im_end|>"],
    )
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
        "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    config = Qwen3Config(
        vocab_size=64,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        initializer_range=0.3,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder / "text_encoder")
    return folder


def write_blip(folder: Path) -> Path:
    """A tiny captioning model with its processor."""
    torch.manual_seed(1)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{c}" for c in LETTERS)]
    tokenizer = BertTokenizer(vocab={w: i for i, w in enumerate(words)})
    text = {
        "vocab_size": len(words),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "encoder_hidden_size": 16,
        "max_position_embeddings": 128,
        "bos_token_id": 2,
        "sep_token_id": 3,
        "pad_token_id": 0,
        "eos_token_id": 3,
        "is_decoder": True,
        "initializer_range": 1.0,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 16,
        "initializer_range": 1.0,
    }
    BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(
        folder
    )
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder
