"""The tiny models of make_goldens.py: one per family, in shapes that hide nothing.

No number of heads is a power of two, no head is hidden_size / heads wide, no number of groups equals
the heads of a group, no window reaches over the sequence; latent ranks and vocabularies are odd, value
heads differ from query heads. Epsilons, bases, scales and soft-caps are none that a reader might
assume, and such that leaving one out shows. Heads and widths of the MLP are even, so that two ranks can
share them. hidden_size is a multiple of the heads, which transformers asks for.
"""

from transformers import (DeepseekV2Config, DeepseekV3Config, Gemma2Config, GPT2Config, LlamaConfig,
                          MistralConfig, Qwen2Config, Qwen3Config)

SPECIAL_TOKENS = dict(bos_token_id=1, eos_token_id=2, pad_token_id=None)


def llama2():
    """Multi-head attention, plain rotation, its own head."""
    return LlamaConfig(
        vocab_size=131, hidden_size=42, intermediate_size=54, num_hidden_layers=2,
        num_attention_heads=6, num_key_value_heads=6, head_dim=10, max_position_embeddings=97,
        rms_norm_eps=1e-3, tie_word_embeddings=False, **SPECIAL_TOKENS,
        rope_parameters=dict(rope_type="default", rope_theta=1000.0))


def llama3():
    """Grouped queries, tied. Of six frequencies the scaling keeps one, blends two, slows three."""
    return LlamaConfig(
        vocab_size=151, hidden_size=50, intermediate_size=58, num_hidden_layers=2,
        num_attention_heads=10, num_key_value_heads=2, head_dim=12, max_position_embeddings=192,
        rms_norm_eps=2e-3, tie_word_embeddings=True, **SPECIAL_TOKENS,
        rope_parameters=dict(rope_type="llama3", rope_theta=50.0, factor=6.0, low_freq_factor=1.0,
                             high_freq_factor=3.0, original_max_position_embeddings=32))


def mistral():
    """A window on every layer."""
    return MistralConfig(
        vocab_size=137, hidden_size=36, intermediate_size=62, num_hidden_layers=3,
        num_attention_heads=12, num_key_value_heads=4, head_dim=6, max_position_embeddings=97,
        sliding_window=7, rms_norm_eps=1e-3, tie_word_embeddings=False, **SPECIAL_TOKENS,
        rope_parameters=dict(rope_type="default", rope_theta=700.0))


def qwen2():
    """Biases on q, k and v; windows from layer max_window_layers on."""
    return Qwen2Config(
        vocab_size=139, hidden_size=42, intermediate_size=50, num_hidden_layers=3,
        num_attention_heads=14, num_key_value_heads=2, head_dim=6, max_position_embeddings=97,
        use_sliding_window=True, sliding_window=9, max_window_layers=1, rms_norm_eps=3e-3,
        tie_word_embeddings=False, **SPECIAL_TOKENS,
        rope_parameters=dict(rope_type="default", rope_theta=900.0))


def qwen2_5():
    """Tied, YaRN on plain attention."""
    return Qwen2Config(
        vocab_size=149, hidden_size=42, intermediate_size=66, num_hidden_layers=2,
        num_attention_heads=6, num_key_value_heads=2, head_dim=16, max_position_embeddings=2048,
        use_sliding_window=False, sliding_window=11, max_window_layers=1, rms_norm_eps=1e-3,
        tie_word_embeddings=True, **SPECIAL_TOKENS,
        rope_parameters=dict(rope_type="yarn", rope_theta=500.0, factor=4.0,
                             original_max_position_embeddings=512))


def qwen3():
    """Norms on the heads of q and k; one group."""
    return Qwen3Config(
        vocab_size=157, hidden_size=42, intermediate_size=54, num_hidden_layers=2,
        num_attention_heads=6, num_key_value_heads=1, head_dim=14, max_position_embeddings=97,
        use_sliding_window=False, rms_norm_eps=3e-3, tie_word_embeddings=True, **SPECIAL_TOKENS,
        rope_parameters=dict(rope_type="default", rope_theta=800.0))


def gemma2():
    """Every other layer windowed, both soft-caps low enough to bend, a scale of its own."""
    return Gemma2Config(
        vocab_size=127, hidden_size=42, intermediate_size=58, num_hidden_layers=3,
        num_attention_heads=6, num_key_value_heads=2, head_dim=12, max_position_embeddings=97,
        sliding_window=5, query_pre_attn_scalar=7, attn_logit_softcapping=2.5,
        final_logit_softcapping=1.5, rms_norm_eps=2e-3, **SPECIAL_TOKENS,
        rope_parameters=dict(rope_type="default", rope_theta=600.0))


def gpt2():
    """Conv1D, learned positions, LayerNorm, biases. Its heads are hidden_size / heads wide by
    definition. No dropout, which the class applies in training otherwise."""
    return GPT2Config(
        vocab_size=163, n_embd=42, n_inner=70, n_layer=2, n_head=6, n_positions=97,
        layer_norm_epsilon=1e-3, attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0,
        **SPECIAL_TOKENS)


def deepseek_v2_lite():
    """Latent attention without a query rank; the two mscales of YaRN differ, so that cosines and
    sines are scaled too."""
    return DeepseekV2Config(
        vocab_size=133, hidden_size=42, intermediate_size=54, num_hidden_layers=2,
        first_k_dense_replace=2, num_attention_heads=6, num_key_value_heads=6, q_lora_rank=None,
        kv_lora_rank=18, qk_nope_head_dim=10, qk_rope_head_dim=12, v_head_dim=9,
        max_position_embeddings=128, rms_norm_eps=1e-3, tie_word_embeddings=False,
        **SPECIAL_TOKENS,
        rope_parameters=dict(rope_type="yarn", rope_theta=1000.0, factor=4.0, beta_fast=1.5,
                             beta_slow=0.5, mscale=1.0, mscale_all_dim=0.707,
                             original_max_position_embeddings=32))


def deepseek_v3():
    """Latent attention with a query rank; YaRN as DeepSeek sets it, mscales equal."""
    return DeepseekV3Config(
        vocab_size=141, hidden_size=42, intermediate_size=50, num_hidden_layers=2,
        first_k_dense_replace=2, num_attention_heads=6, num_key_value_heads=6, q_lora_rank=19,
        kv_lora_rank=15, qk_nope_head_dim=8, qk_rope_head_dim=12, v_head_dim=14,
        max_position_embeddings=5120, rms_norm_eps=2e-3, tie_word_embeddings=False,
        **SPECIAL_TOKENS,
        rope_parameters=dict(rope_type="yarn", rope_theta=400.0, factor=5.0, beta_fast=32.0,
                             beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0,
                             original_max_position_embeddings=1024))


FAMILIES = {build.__name__: build for build in (
    llama2, llama3, mistral, qwen2, qwen2_5, qwen3, gemma2, gpt2, deepseek_v2_lite, deepseek_v3)}

# Written as several files with an index.
SHARDED = {"qwen2"}
# config.json in the words of transformers 4, which most folders on the hub still use, with the window
# that Qwen2.5's have and do not use.
IN_THE_WORDS_OF_4 = {"qwen2_5": dict(sliding_window=11), "deepseek_v3": {}}
# Gemma's embeddings, tied and scaled, would predict their own token otherwise.
EMBEDDING_GAIN = {"gemma2": 0.5}
