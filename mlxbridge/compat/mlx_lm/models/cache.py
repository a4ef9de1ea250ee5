"""mlx_lm's prompt caches, which the host keeps by itself: each function says so."""

from mlxbridge.compat.refusal import refusing

make_prompt_cache = load_prompt_cache = save_prompt_cache = trim_prompt_cache = can_trim_prompt_cache = (
    refusing(
        "prompt_cache",
        "the host keeps what it has read by itself: leave prompt_cache out, and give the whole chat each time",
    )
)
