"""Names from transformers' GenerationConfig and from inference servers."""

from __future__ import annotations

from .entries import not_supported, nothing, of_source, reads, together
from .readers import LONGEST_ANSWER, SAMPLING, SHORTEST_ANSWER

HOME = "evaluate.generation"

ENDS = "the model's template and tokenizer decide where an answer begins and ends"
RETURNED = "answers are texts"
SPEED = "it changes the speed of answers, not the answers"

NAMES = of_source(
    "GenerationConfig",
    reads(
        HOME,
        {
            "max_tokens": f"{HOME}.max_new_tokens",
            "min_tokens": f"{HOME}.min_new_tokens",
            "repeat_penalty": f"{HOME}.repetition_penalty",
            "beams": f"{HOME}.num_beams",
            "stop_strings": f"{HOME}.stop",
            "stop_words": f"{HOME}.stop",
        },
    ),
    reads(HOME, {"n": f"{HOME}.num_return_sequences"}, inside_only=True),
    together(HOME, LONGEST_ANSWER, f"{HOME}.max_new_tokens", "max_length generation_max_length"),
    together(HOME, SHORTEST_ANSWER, f"{HOME}.min_new_tokens", "min_length"),
    together(HOME, SAMPLING, f"{HOME}.temperature: 0 takes the likeliest token", "do_sample"),
    reads(HOME, {"generation_num_beams": f"{HOME}.num_beams", "eval_num_beams": f"{HOME}.num_beams"}),
    nothing(
        HOME,
        ENDS,
        "pad_token_id bos_token_id eos_token_id decoder_start_token_id forced_bos_token_id forced_eos_token_id "
        "skip_special_tokens",
    ),
    nothing(
        HOME,
        RETURNED,
        "output_attentions output_hidden_states output_scores output_logits return_dict_in_generate",
    ),
    nothing(
        HOME,
        SPEED,
        "cache_implementation cache_config max_cache_len use_mtp is_assistant num_assistant_tokens "
        "num_assistant_tokens_schedule assistant_confidence_threshold prompt_lookup_num_tokens "
        "max_matching_ngram_size assistant_early_exit assistant_lookbehind target_lookbehind "
        "assistant_ensemble_weight speculation_type compile_config disable_compile continuous_batching_config "
        "low_memory prefill_chunk_size use_kv_cache transformers_version",
    ),
    not_supported(HOME, "another way to stop beam search", "early_stopping length_penalty", harmless=(1.0,)),
    not_supported(HOME, "a limit in seconds", "max_time"),
    not_supported(
        HOME,
        "that way of sampling",
        "min_p top_h epsilon_cutoff eta_cutoff penalty_alpha dola_layers guidance_scale "
        "no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids force_words_ids constraints "
        "suppress_tokens begin_suppress_tokens sequence_bias exponential_decay_length_penalty token_healing "
        "watermarking_config renormalize_logits remove_invalid_values diversity_penalty presence_penalty "
        "frequency_penalty",
    ),
    not_supported(
        HOME,
        "that way of sampling",
        "typical_p encoder_repetition_penalty num_beam_groups",
        harmless=(1.0,),
    ),
)
"""Names from GenerationConfig, and a few from vLLM and OpenAI."""
