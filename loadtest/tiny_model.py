"""Write a small Llama with random weights and a byte-level tokenizer to a folder; nothing is downloaded.

Its words mean nothing; chat template, tokens, prefix cache, guided output and sampling are those of any other model.
Run in the environment that `make test-vllm` makes: `python -m loadtest.tiny_model DIR [HIDDEN LAYERS]`. 256 4 has
4 million parameters; 768 12 about 60, enough for prefill times that can be told apart on a CPU.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 2000
POSITIONS = 16_384
HEAD = 64
SPECIAL = ["<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|python_tag|>"]
TEMPLATE = (
    "{% if tools %}<|tool|>{{ tools | tojson }}</s>{% endif %}"
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
    "{% if m['tool_calls'] %}{{ m['tool_calls'] | tojson }}{% endif %}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
REPOSITORY = Path(__file__).parents[1]


def write(folder: Path, hidden: int = 256, layers: int = 4, seed: int = 0) -> None:
    """A model of `layers` layers whose states have `hidden` numbers (a multiple of 64); equal seeds, equal weights."""
    words = tokenizer()
    words.save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // HEAD,
        num_key_value_heads=hidden // HEAD,
        head_dim=HEAD,
        max_position_embeddings=POSITIONS,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(config)
    _never_blank(model, words)
    model.to(torch.bfloat16).save_pretrained(folder)


def _never_blank(model: LlamaForCausalLM, words: PreTrainedTokenizerFast) -> None:
    """A blank token's score is 0, which another always exceeds: random weights would else repeat line feeds at will."""
    blank = [number for number in range(len(words)) if not words.decode([number]).strip()]
    with torch.no_grad():
        model.lm_head.weight[blank] = 0.0


def write_adapter(folder: Path, hidden: int = 256, layers: int = 4, seed: int = 1, rank: int = 8) -> None:
    """A LoRA adapter with random weights, large enough that it changes what the model says."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True)
    weights = {}
    for layer in range(layers):
        for name in ("q_proj", "v_proj"):
            place = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{place}.lora_A.weight"] = torch.randn(rank, hidden)
            weights[f"{place}.lora_B.weight"] = torch.randn(hidden, rank)
    save_file(weights, folder / "adapter_model.safetensors")
    about = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["q_proj", "v_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(about), encoding="utf-8")


def tokenizer() -> PreTrainedTokenizerFast:
    """Trained on the sample library, which seldom changes; every byte has a token, so that no text is refused."""
    texts = [
        page.read_text(encoding="utf-8")
        for page in [*sorted(REPOSITORY.glob("samples/library/*.md")), REPOSITORY / "samples/booklet.txt"]
    ]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, special_tokens=SPECIAL)
    )
    found = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    found.chat_template = TEMPLATE
    return found


if __name__ == "__main__":
    size = [int(word) for word in sys.argv[2:4]]
    write(Path(sys.argv[1]), *size)
