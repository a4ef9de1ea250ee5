"""From messages to token ids, and from tokens to text, reasoning and tool calls."""
