"""A tiny model at random weights per family of open_clip's text towers, with the settings of a real configuration.

Widths and depths are small, the image tower is a small ViT, and what a hub would give, a tokenizer and the
configuration of a transformers text tower, is made here: the tokenizer puts the same tokens around a sentence.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file

from pfedmoap.clip import Clip, load_clip

CORPUS = ["a photo of a cat, a dog, a sea lion and a hard-leaved pocket orchid.", "x an old red car, x x"]


@dataclass(frozen=True)
class Family:
    """A family of text towers.

    Attributes:
        model: the configuration of open_clip whose settings are taken.
        fast: whether the shared prefix is exact.
        sentence: what its tokenizer puts around a sentence ($A); None: open_clip's own tokenizer.
        vocabulary: special tokens in the order of their ids.
        tower: the transformers configuration of its text tower, a class name and its settings.
    """

    model: str
    fast: bool
    sentence: str | None = None
    vocabulary: tuple[str, ...] = ()
    tower: tuple[str, dict] | None = None


XLM = ("<s>", "<pad>", "</s>", "<unk>")
ROBERTA = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
           "max_position_embeddings": 90, "pad_token_id": 1}
OWN = [
    Family("EVA02-B-16", True), Family("PE-Core-T-16-384", True), Family("ViTamin-S", True),
    Family("MobileCLIP2-B", True), Family("MobileCLIP2-S0", False), Family("coca_ViT-B-32", False),
]  # fmt: skip
OF_TRANSFORMERS = [
    Family("ViT-B-16-SigLIP", False, "$A </s>", ("<unk>", "</s>")),
    Family("ViT-B-16-SigLIP2", False, "$A <eos>", ("<pad>", "<eos>", "<unk>")),
    Family("ViT-SO400M-16-SigLIP-i18n-256", False, "$A </s>", ("<unk>", "</s>")),
    Family("ViT-L-14-CLIPA", False, "[CLS] $A [SEP]", ("[PAD]", "[UNK]", "[CLS]", "[SEP]")),
    Family("ViT-H-14-worldwide", True, "<s> $A </s>", XLM),
    Family("ViT-L-14-worldwide", True, "$A </s>", ("<pad>", "</s>", "<unk>")),
    Family("roberta-ViT-B-32", False, "<s> $A </s>", XLM, ("RobertaConfig", ROBERTA)),
    Family("xlm-roberta-base-ViT-B-32", False, "<s> $A </s>", XLM, ("XLMRobertaConfig", ROBERTA)),
    Family("coca_roberta-ViT-B-32", False, "<s> $A </s>", XLM, ("RobertaConfig", ROBERTA)),
    Family("mt5-base-ViT-B-32", False, "$A </s>", ("<pad>", "</s>", "<unk>"), ("MT5Config", {
        "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2})),
    Family("nllb-clip-base", False, "<language> $A </s>", (*XLM, "<language>"), ("M2M100Config", {
        "d_model": 32, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "pad_token_id": 1})),
    Family("nllb-clip-base-siglip", False, "<language> $A </s>", (*XLM, "<language>"), ("M2M100Config", {
        "d_model": 32, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "pad_token_id": 1})),
]  # fmt: skip


def tiny_model(family: Family, folder: Path) -> Clip:
    """Registers a tiny model of a family with open_clip, and loads it from a file of random weights."""
    config, name = open_clip.get_model_config(family.model), f"tiny-{family.model}"
    vision = {"image_size": 16, "layers": 1, "width": 64, "patch_size": 4}
    if "multimodal_cfg" in config:
        vision |= {key: config["vision_cfg"].get(key, False) for key in ("attentional_pool", "output_tokens")}
        vision["attn_pooler_heads"] = 2
        config["multimodal_cfg"] |= {"width": 32, "heads": 2, "layers": 1}
    text = config["text_cfg"]
    size = _write_tokenizer(family, folder / "tokenizer") if family.sentence else 49408
    if family.sentence:
        text["hf_tokenizer_name"] = str(folder / "tokenizer")
    if family.tower:
        _write_tower(family, folder / "tower", size)
        text["hf_model_name"] = str(folder / "tower")
    else:
        text |= {"width": 32, "heads": 2, "layers": 2, "vocab_size": size}
    width = 32 if text.get("proj_type") == "none" else 24
    (folder / f"{name}.json").write_text(json.dumps(config | {"embed_dim": width, "vision_cfg": vision}))
    open_clip.add_model_config(folder / f"{name}.json")
    torch.manual_seed(0)
    state = open_clip.create_model(name, pretrained_text=False).state_dict()
    save_file({key: value.clone().contiguous() for key, value in state.items()}, folder / "weights.safetensors")
    return load_clip(name, str(folder / "weights.safetensors"))


def _write_tokenizer(family: Family, folder: Path) -> int:
    """Byte pairs of a few words, and the family's tokens around them. Returns the size of the vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    bytes_of_words = pre_tokenizers.ByteLevel(add_prefix_space="roberta" not in family.model)
    tokenizer.pre_tokenizer = bytes_of_words
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(family.vocabulary), initial_alphabet=bytes_of_words.alphabet()))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=family.sentence, special_tokens=[(token, tokenizer.token_to_id(token)) for token in family.vocabulary])
    padding = next((token for token in family.vocabulary if token.lower() in ("<pad>", "[pad]")), "</s>")
    separator = {"sep_token": "[SEP]"} if "[SEP]" in family.vocabulary else {}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=padding, **separator).save_pretrained(folder)
    return tokenizer.get_vocab_size()


def _write_tower(family: Family, folder: Path, vocabulary: int) -> None:
    import transformers

    name, settings = family.tower
    getattr(transformers, name)(vocab_size=vocabulary, **settings).save_pretrained(folder)
