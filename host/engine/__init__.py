"""Running a model: prompts to tokens to text, many calls at once; no sockets in here."""
